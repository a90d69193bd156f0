#include "nbd/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/parse.h"

#define BACKLOG 128

/* The kernel closes what io_uring has of a process that was killed some moments after its end. */
#define LINGER_MS 2000
#define PAUSE_MS  20

const char *nbd_address_path(const char *bound)
{
	return strncmp(bound, "unix:", 5) == 0 ? bound + 5 : NULL;
}

/*
 * True when a file is there that only a dead server can have left behind. One that lives, and has
 * as many clients waiting as it lets wait, is not waited for.
 */
static bool stale_socket(const struct sockaddr_un *address)
{
	cleanup_close int fd = -1;
	struct stat st;

	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	       errno == ECONNREFUSED;
}

static int bind_unix(int fd, const struct sockaddr_un *address)
{
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!stale_socket(address))
		return -EADDRINUSE;
	unlink(address->sun_path);
	return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

/* The mode is set before bind, which gives it to the file: there is no moment with another one. */
static int listen_unix(const char *path, unsigned mode, int *ret_fd, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (path[0] == 0 || strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -EINVAL,
				 "'%s' is no path for a socket: it needs 1 to %zu bytes", path,
				 sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return error_set(err, -errno, "cannot make a socket: %s", errno_text(errno));
	r = bind_unix(fd, &address);
	if (r < 0)
		return error_set(err, r, "cannot listen at '%s': %s", path, errno_text(r));
	if (listen(fd, BACKLOG) < 0)
		return error_set(err, -errno, "cannot listen at '%s': %s", path, errno_text(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Splits HOST:PORT or [ADDRESS]:PORT. */
static int split(const char *address, char host[NBD_ADDRESS_MAX], const char **port,
		 struct error *err)
{
	const char *colon = strrchr(address, ':'), *begin = address, *end = colon;
	unsigned number;

	if (colon && address[0] == '[' && colon > address && colon[-1] == ']') {
		begin++;
		end--;
	}
	if (!colon || end <= begin || (size_t)(end - begin) >= NBD_ADDRESS_MAX ||
	    (begin == address && memchr(begin, ':', end - begin)))
		return error_set(err, -EINVAL,
				 "'%s' is no address to listen on: say unix:PATH, HOST:PORT or "
				 "[ADDRESS]:PORT",
				 address);
	if (parse_unsigned(colon + 1, 0, 65535, &number) < 0)
		return error_set(err, -EINVAL, "'%s' has no port between 0 and 65535", address);
	memcpy(host, begin, end - begin);
	host[end - begin] = 0;
	*port = colon + 1;
	return 0;
}

static int listen_at(const struct addrinfo *info, int *ret_fd)
{
	cleanup_close int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

static unsigned bound_port(int fd)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);

	getsockname(fd, (struct sockaddr *)&address, &length);
	if (address.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
	return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static int listen_tcp(const char *address, int *ret_fd, char bound[NBD_ADDRESS_MAX],
		      struct error *err)
{
	const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
					.ai_socktype = SOCK_STREAM };
	char host[NBD_ADDRESS_MAX];
	struct addrinfo *info;
	const char *port = NULL;
	int r = split(address, host, &port, err);

	if (r < 0)
		return r;
	r = getaddrinfo(host, port, &hints, &info);
	if (r != 0)
		return error_set(err, -EADDRNOTAVAIL, "cannot find the address of '%s': %s", host,
				 gai_strerror(r));
	r = listen_at(info, ret_fd);
	freeaddrinfo(info);
	if (r < 0)
		return error_set(err, r, "cannot listen at '%s': %s", address, errno_text(r));
	snprintf(bound, NBD_ADDRESS_MAX, "%.*s:%u", (int)(strrchr(address, ':') - address), address,
		 bound_port(*ret_fd));
	return 0;
}

static int listen_once(const char *address, unsigned mode, int *ret_fd, char bound[NBD_ADDRESS_MAX],
		       struct error *err)
{
	const char *path = nbd_address_path(address);
	int r;

	if (!path)
		return listen_tcp(address, ret_fd, bound, err);
	r = listen_unix(path, mode, ret_fd, err);
	if (r == 0)
		strcpy(bound, address);
	return r;
}

int nbd_address_listen(const char *address, unsigned mode, int *ret_fd, char bound[NBD_ADDRESS_MAX],
		       struct error *err)
{
	const struct timespec deadline = deadline_in_ms(LINGER_MS);
	int r;

	if (strlen(address) >= NBD_ADDRESS_MAX - 8)
		return error_set(err, -EINVAL, "the address to listen on is too long");
	while ((r = listen_once(address, mode, ret_fd, bound, err)) == -EADDRINUSE &&
	       !deadline_passed(&deadline))
		pause_ms(PAUSE_MS);
	return r;
}

/* Appends @text to @uri with everything but plain letters (and @keep) as %XX. */
static bool append(char *uri, size_t size, const char *text, const char *keep)
{
	size_t at = strlen(uri);

	for (; *text; text++) {
		bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
			     (*text >= '0' && *text <= '9') || strchr(keep, *text);

		if (at + 4 > size)
			return false;
		at += plain ? snprintf(uri + at, size - at, "%c", *text)
			    : snprintf(uri + at, size - at, "%%%02X", (unsigned char)*text);
	}
	return true;
}

bool nbd_address_uri(const char *bound, bool tls, const char *name, char *uri, size_t size)
{
	static const char unreserved[] = "-._~";
	const char *path = nbd_address_path(bound), *scheme = tls ? "nbds" : "nbd";
	int length = path ? snprintf(uri, size, "%s+unix:///", scheme)
			  : snprintf(uri, size, "%s://%s/", scheme, bound);

	if (length < 0 || (size_t)length >= size || !append(uri, size, name, unreserved))
		return false;
	return !path || (append(uri, size, "?socket=", "?=") && append(uri, size, path, "-._~/"));
}

/* The next character of a URI, be it escaped or not. */
static char next_character(const char **at)
{
	const char *text = *at;
	const char digits[] = { text[0] == '%' ? text[1] : '\0',
				text[0] && text[1] ? text[2] : '\0', '\0' };

	if (isxdigit((unsigned char)digits[0]) && isxdigit((unsigned char)digits[1])) {
		*at += 3;
		return (char)strtoul(digits, NULL, 16);
	}
	*at += 1;
	return text[0];
}

bool nbd_address_uri_same(const char *uri, const char *other)
{
	while (*uri && *other)
		if (next_character(&uri) != next_character(&other))
			return false;
	return *uri == *other;
}
