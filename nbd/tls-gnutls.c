#include "nbd/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/macros.h"

/* Ciphertext held in each direction: some records of 16 KiB. */
#define BUFFER_SIZE (64u * 1024)

/* Room that a record of plaintext may need beyond its own length. */
#define RECORD_OVERHEAD 512

/* A name and a key in the file of keys. */
#define KEY_LINE_MAX 2048

#define PRIORITY     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK"

struct nbd_tls_credentials {
	gnutls_certificate_credentials_t certificates; /* one of the two */
	gnutls_psk_server_credentials_t psk;
	gnutls_priority_t priority;
};

/* Bytes between `start` and `end`. */
struct buffer {
	size_t start, end;
	uint8_t bytes[BUFFER_SIZE];
};

struct nbd_tls_stream {
	gnutls_session_t session;
	struct buffer in, out;
};

bool nbd_tls_available(void)
{
	return true;
}

void nbd_tls_credentials_free(struct nbd_tls_credentials *credentials)
{
	if (!credentials)
		return;
	if (credentials->certificates)
		gnutls_certificate_free_credentials(credentials->certificates);
	if (credentials->psk)
		gnutls_psk_free_server_credentials(credentials->psk);
	if (credentials->priority)
		gnutls_priority_deinit(credentials->priority);
	free(credentials);
}

static void credentials_cleanup(struct nbd_tls_credentials **credentials)
{
	nbd_tls_credentials_free(*credentials);
}

#define cleanup_credentials cleanup(credentials_cleanup)

static struct nbd_tls_credentials *credentials_new(const char *priority)
{
	struct nbd_tls_credentials *credentials = calloc(1, sizeof(*credentials));

	if (!credentials)
		return NULL;
	if (gnutls_priority_init(&credentials->priority, priority, NULL) >= 0)
		return credentials;
	nbd_tls_credentials_free(credentials);
	return NULL;
}

/* @directory/@name, checked to be there: gnutls says no more than "error while reading file". */
static int file_in(const char *directory, const char *name, char path[PATH_MAX], struct error *err)
{
	if (snprintf(path, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
		return error_set(err, -ENAMETOOLONG, "the path of the certificates is too long");
	if (access(path, R_OK) < 0)
		return error_set(err, -errno, "cannot read '%s': %s", path, errno_text(errno));
	return 0;
}

static int load_authority(gnutls_certificate_credentials_t certificates, const char *directory,
			  struct error *err)
{
	struct error ignored = ERROR_NONE;
	char path[PATH_MAX];
	int r = file_in(directory, "ca-cert.pem", path, err);

	if (r < 0)
		return r;
	r = gnutls_certificate_set_x509_trust_file(certificates, path, GNUTLS_X509_FMT_PEM);
	if (r <= 0)
		return error_set(err, -EINVAL, "'%s' holds no certificate: %s", path,
				 r < 0 ? gnutls_strerror(r) : "it is empty");
	if (file_in(directory, "ca-crl.pem", path, &ignored) < 0)
		return 0;
	r = gnutls_certificate_set_x509_crl_file(certificates, path, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return error_set(err, -EINVAL, "'%s' holds no revocation list: %s", path,
				 gnutls_strerror(r));
	return 0;
}

static int load_own(gnutls_certificate_credentials_t certificates, const char *directory,
		    struct error *err)
{
	char certificate[PATH_MAX], key[PATH_MAX];
	int r = file_in(directory, "server-cert.pem", certificate, err);

	if (r == 0)
		r = file_in(directory, "server-key.pem", key, err);
	if (r < 0)
		return r;
	r = gnutls_certificate_set_x509_key_file(certificates, certificate, key,
						 GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return error_set(err, -EINVAL, "'%s' and '%s' are no certificate and its key: %s",
				 certificate, key, gnutls_strerror(r));
	return 0;
}

int nbd_tls_credentials_x509(const char *directory, struct nbd_tls_credentials **ret,
			     struct error *err)
{
	cleanup_credentials struct nbd_tls_credentials *credentials = credentials_new(PRIORITY);
	int r;

	if (!credentials || gnutls_certificate_allocate_credentials(&credentials->certificates) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	r = load_authority(credentials->certificates, directory, err);
	if (r == 0)
		r = load_own(credentials->certificates, directory, err);
	if (r == 0)
		*ret = take_ptr(credentials);
	return r;
}

/* "NAME:HEXADECIMAL KEY"; or with '#' the name in hexadecimal. A line without an end is none. */
static bool is_key(const char *line)
{
	const char *colon = strrchr(line, ':');
	size_t digits = colon ? strspn(colon + 1, "0123456789abcdefABCDEF") : 0;

	return colon > line && digits >= 2 && digits % 2 == 0 &&
	       colon[1 + digits + strspn(colon + 1 + digits, " \r\n")] == '\0';
}

/* What the lines hold is not repeated. */
static int check_lines(FILE *file, const char *path, struct error *err)
{
	unsigned keys = 0, number = 1;
	char line[KEY_LINE_MAX];
	bool fits = true;

	for (; fits && fgets(line, sizeof(line), file); number++) {
		bool key = is_key(line);

		keys += key;
		fits = key || line[0] == '\n';
	}
	explicit_bzero(line, sizeof(line));
	if (!fits)
		return error_set(err, -EINVAL,
				 "'%s' is no file of keys: line %u is not NAME:KEY with a "
				 "hexadecimal key, as psktool writes it",
				 path, number - 1);
	if (ferror(file))
		return error_set(err, -EIO, "cannot read '%s': %s", path, errno_text(errno));
	return keys > 0 ? 0 : error_set(err, -EINVAL, "'%s' holds no keys", path);
}

/* gnutls looks into the file when a client comes, and tells nobody what it misses there. */
static int check_keys(const char *path, struct error *err)
{
	FILE *file = fopen(path, "re");
	int r;

	if (!file)
		return error_set(err, -errno, "cannot read '%s': %s", path, errno_text(errno));
	r = check_lines(file, path, err);
	fclose(file);
	return r;
}

int nbd_tls_credentials_psk(const char *file, struct nbd_tls_credentials **ret, struct error *err)
{
	cleanup_credentials struct nbd_tls_credentials *credentials = credentials_new(PRIORITY_PSK);
	int r;

	if (!credentials || gnutls_psk_allocate_server_credentials(&credentials->psk) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	r = check_keys(file, err);
	if (r < 0)
		return r;
	r = gnutls_psk_set_server_credentials_file(credentials->psk, file);
	if (r < 0)
		return error_set(err, -EINVAL, "'%s' holds no keys: %s", file, gnutls_strerror(r));
	*ret = take_ptr(credentials);
	return 0;
}

static size_t length_of(const struct buffer *buffer)
{
	return buffer->end - buffer->start;
}

static void compact(struct buffer *buffer)
{
	if (buffer->start > 0)
		memmove(buffer->bytes, buffer->bytes + buffer->start, length_of(buffer));
	buffer->end -= buffer->start;
	buffer->start = 0;
}

static ssize_t pull(gnutls_transport_ptr_t data, void *to, size_t length)
{
	struct nbd_tls_stream *tls = data;

	length = MIN(length, length_of(&tls->in));
	if (length == 0) {
		gnutls_transport_set_errno(tls->session, EAGAIN);
		return -1;
	}
	memcpy(to, tls->in.bytes + tls->in.start, length);
	tls->in.start += length;
	return length;
}

static ssize_t push(gnutls_transport_ptr_t data, const void *from, size_t length)
{
	struct nbd_tls_stream *tls = data;

	compact(&tls->out);
	length = MIN(length, BUFFER_SIZE - tls->out.end);
	if (length == 0) {
		gnutls_transport_set_errno(tls->session, EAGAIN);
		return -1;
	}
	memcpy(tls->out.bytes + tls->out.end, from, length);
	tls->out.end += length;
	return length;
}

/* Data that is not here now comes through pull() later; there is nothing to wait for. */
static int pull_timeout(gnutls_transport_ptr_t data, unsigned ms)
{
	struct nbd_tls_stream *tls = data;

	return length_of(&tls->in) > 0;
}

static int set_credentials(gnutls_session_t session, const struct nbd_tls_credentials *credentials)
{
	if (credentials->psk)
		return gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials->psk);
	gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert(session, NULL, 0);
	return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->certificates);
}

int nbd_tls_create(struct nbd_tls_credentials *credentials, struct nbd_tls_stream **ret)
{
	struct nbd_tls_stream *tls = malloc(sizeof(*tls));

	if (!tls)
		return -ENOMEM;
	tls->in.start = tls->in.end = tls->out.start = tls->out.end = 0;
	if (gnutls_init(&tls->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
		free(tls);
		return -ENOMEM;
	}
	gnutls_transport_set_ptr(tls->session, tls);
	gnutls_transport_set_pull_function(tls->session, pull);
	gnutls_transport_set_push_function(tls->session, push);
	gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
	gnutls_handshake_set_timeout(tls->session, GNUTLS_INDEFINITE_TIMEOUT);
	if (gnutls_priority_set(tls->session, credentials->priority) < 0 ||
	    set_credentials(tls->session, credentials) < 0) {
		nbd_tls_free(tls);
		return -EINVAL;
	}
	*ret = tls;
	return 0;
}

void nbd_tls_free(struct nbd_tls_stream *tls)
{
	if (!tls)
		return;
	gnutls_deinit(tls->session);
	free(tls);
}

bool nbd_tls_window(struct nbd_tls_stream *tls, struct iovec *window)
{
	compact(&tls->in);
	*window = (struct iovec){ tls->in.bytes + tls->in.end, BUFFER_SIZE - tls->in.end };
	return window->iov_len > 0;
}

void nbd_tls_received(struct nbd_tls_stream *tls, size_t length)
{
	tls->in.end += length;
}

static int errno_of(ssize_t result)
{
	return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EPROTO;
}

int nbd_tls_handshake(struct nbd_tls_stream *tls)
{
	int r;

	do
		r = gnutls_handshake(tls->session);
	while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r));
	if (r < 0 && r != GNUTLS_E_AGAIN)
		gnutls_alert_send_appropriate(tls->session, r);
	return r < 0 ? errno_of(r) : 0;
}

ssize_t nbd_tls_read(struct nbd_tls_stream *tls, void *to, size_t length)
{
	ssize_t result;

	do
		result = gnutls_record_recv(tls->session, to, length);
	while (result < 0 && result != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(result));
	return result < 0 ? errno_of(result) : result;
}

ssize_t nbd_tls_write(struct nbd_tls_stream *tls, const void *from, size_t length)
{
	size_t room = BUFFER_SIZE - length_of(&tls->out);
	ssize_t result;

	/* Only records that fit whole, so that none is ever half encrypted. */
	length = MIN(length, gnutls_record_get_max_size(tls->session));
	if (room < length + RECORD_OVERHEAD)
		return -EAGAIN;
	result = gnutls_record_send(tls->session, from, length);
	return result < 0 ? errno_of(result) : result;
}

void nbd_tls_end(struct nbd_tls_stream *tls)
{
	gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

bool nbd_tls_output(struct nbd_tls_stream *tls, struct iovec *output)
{
	*output = (struct iovec){ tls->out.bytes + tls->out.start, length_of(&tls->out) };
	return output->iov_len > 0;
}

void nbd_tls_sent(struct nbd_tls_stream *tls, size_t length)
{
	tls->out.start += length;
}
