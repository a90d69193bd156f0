/* Stands in for TLS where the build has none: no credentials, and so no connection. */
#include <errno.h>

#include "nbd/tls.h"

bool nbd_tls_available(void)
{
	return false;
}

static int refuse(struct error *err)
{
	return error_set(err, -EOPNOTSUPP,
			 "this build has no TLS: build it with gnutls (meson -Dtls=enabled)");
}

int nbd_tls_credentials_x509(const char *directory, struct nbd_tls_credentials **ret,
			     struct error *err)
{
	return refuse(err);
}

int nbd_tls_credentials_psk(const char *file, struct nbd_tls_credentials **ret, struct error *err)
{
	return refuse(err);
}

void nbd_tls_credentials_free(struct nbd_tls_credentials *credentials)
{
}

int nbd_tls_create(struct nbd_tls_credentials *credentials, struct nbd_tls_stream **ret)
{
	return -EOPNOTSUPP;
}

void nbd_tls_free(struct nbd_tls_stream *tls)
{
}

bool nbd_tls_window(struct nbd_tls_stream *tls, struct iovec *window)
{
	return false;
}

void nbd_tls_received(struct nbd_tls_stream *tls, size_t length)
{
}

int nbd_tls_handshake(struct nbd_tls_stream *tls)
{
	return -EOPNOTSUPP;
}

ssize_t nbd_tls_read(struct nbd_tls_stream *tls, void *to, size_t length)
{
	return -EOPNOTSUPP;
}

ssize_t nbd_tls_write(struct nbd_tls_stream *tls, const void *from, size_t length)
{
	return -EOPNOTSUPP;
}

void nbd_tls_end(struct nbd_tls_stream *tls)
{
}

bool nbd_tls_output(struct nbd_tls_stream *tls, struct iovec *output)
{
	return false;
}

void nbd_tls_sent(struct nbd_tls_stream *tls, size_t length)
{
}
