/*
 * TLS for NBD connections, without I/O of its own: ciphertext in and out, plaintext in and out.
 * Either X.509 (clients must show a certificate that the CA has signed) or pre-shared keys; TLS 1.2
 * at least. nbd/tls-none.c stands in where gnutls was left out of the build.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/error.h"

/* What a server shows and asks for. Shared by its connections, unchanged after creation. */
struct nbd_tls_credentials;

/* One connection. */
struct nbd_tls_stream;

/* False where the build has no TLS. */
bool nbd_tls_available(void);

/*
 * From @directory, with the file names that the field's tools use: ca-cert.pem, server-cert.pem,
 * server-key.pem, and ca-crl.pem where it is there. Reads files; any thread.
 */
int nbd_tls_credentials_x509(const char *directory, struct nbd_tls_credentials **ret,
			     struct error *err);

/* From a file of "user:hexadecimal key" lines, as psktool writes it. */
int nbd_tls_credentials_psk(const char *file, struct nbd_tls_credentials **ret, struct error *err);

void nbd_tls_credentials_free(struct nbd_tls_credentials *credentials);

int nbd_tls_create(struct nbd_tls_credentials *credentials, struct nbd_tls_stream **ret);
void nbd_tls_free(struct nbd_tls_stream *tls);

/* Where the next ciphertext goes; false: first read what is there. */
bool nbd_tls_window(struct nbd_tls_stream *tls, struct iovec *window);
void nbd_tls_received(struct nbd_tls_stream *tls, size_t length);

/* 0 when the handshake is done, -EAGAIN when it needs more bytes (send the output), or it failed.
 */
int nbd_tls_handshake(struct nbd_tls_stream *tls);

/* Plaintext into @to: its length, -EAGAIN when more ciphertext is needed, 0 at the peer's end of
 * TLS, or a negative errno. */
ssize_t nbd_tls_read(struct nbd_tls_stream *tls, void *to, size_t length);

/* Encrypts up to a record of @from; its length, -EAGAIN when the output has to be sent first. */
ssize_t nbd_tls_write(struct nbd_tls_stream *tls, const void *from, size_t length);

/* Says good-bye into the output. */
void nbd_tls_end(struct nbd_tls_stream *tls);

/* Ciphertext to send; false when there is none. */
bool nbd_tls_output(struct nbd_tls_stream *tls, struct iovec *output);
void nbd_tls_sent(struct nbd_tls_stream *tls, size_t length);
