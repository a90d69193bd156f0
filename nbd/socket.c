#include "nbd/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* The kernel doubles it, for what it needs to keep the bytes. */
#define UNIX_SEND_BUFFER (1024 * 1024)

static int domain_of(int fd)
{
	int domain = AF_UNSPEC;
	socklen_t size = sizeof(domain);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
	return domain;
}

/* Only CAP_NET_ADMIN may have more than net.core.wmem_max. */
static void prepare_unix(int fd)
{
	const int size = UNIX_SEND_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void prepare_tcp(int fd)
{
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

void nbd_socket_prepare(int fd)
{
	if (domain_of(fd) == AF_UNIX)
		prepare_unix(fd);
	else
		prepare_tcp(fd);
}
