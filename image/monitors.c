#include "image/monitors.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/macros.h"

#define ASKED_MAX   16
#define ANSWER_MS   1000
#define BANNER_SIZE 8

struct monitor {
	char *address;	      /* in a copy of the list */
	int fd;		      /* -1: not asked, or done */
	const char *protocol; /* what it turned out to speak, with colon; "" if unknown */
};

static bool well_known(const char *port)
{
	return strcmp(port, "6789") == 0 || strcmp(port, "3300") == 0;
}

/* An IPv4 address (or a bare word) with a port of its own; "v1:...", "[...]" have other shapes. */
static bool needs_asking(const char *address)
{
	const char *colon = strchr(address, ':');

	return colon && colon[1] && !strpbrk(address, "[]/") && !strchr(colon + 1, ':') &&
	       !well_known(colon + 1);
}

/* A socket on its way to @address, or -1. */
static int begin_connect(const char *address)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
					.ai_socktype = SOCK_STREAM };
	cleanup_free char *host = strdup(address);
	char *port = host ? strchr(host, ':') : NULL;
	struct addrinfo *found;
	int fd;

	if (!port)
		return -1;
	*port++ = '\0';
	if (getaddrinfo(host, port, &hints, &found) != 0)
		return -1;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS) {
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

/* The banner has come, or nothing will. */
static void hear(struct monitor *monitor)
{
	char banner[BANNER_SIZE];

	if (recv(monitor->fd, banner, sizeof(banner), 0) == sizeof(banner)) {
		if (memcmp(banner, "ceph v2\n", BANNER_SIZE) == 0)
			monitor->protocol = "v2:";
		else if (memcmp(banner, "ceph v0", BANNER_SIZE - 1) == 0)
			monitor->protocol = "v1:";
	}
	close(monitor->fd);
	monitor->fd = -1;
}

/* Waits until each monitor that was asked has answered, or time is up. */
static void hear_all(struct monitor *monitors, unsigned count)
{
	struct timespec deadline = deadline_in_ms(ANSWER_MS);
	struct pollfd polls[ASKED_MAX];
	unsigned waiting;
	int left;

	for (;;) {
		waiting = 0;
		for (unsigned i = 0; i < count; i++) {
			polls[i] = (struct pollfd){ .fd = monitors[i].fd, .events = POLLIN };
			waiting += monitors[i].fd >= 0;
		}
		left = deadline_left_ms(&deadline);
		if (!waiting || left == 0 || poll(polls, count, left) == 0)
			break;
		for (unsigned i = 0; i < count; i++)
			if (monitors[i].fd >= 0 && polls[i].revents)
				hear(&monitors[i]);
	}
	for (unsigned i = 0; i < count; i++)
		if (monitors[i].fd >= 0)
			close(monitors[i].fd);
}

static char *join(const struct monitor *monitors, unsigned count, const char *rest)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (unsigned i = 0; i < count; i++)
		fprintf(out, "%s%s%s", i ? "," : "", monitors[i].protocol, monitors[i].address);
	if (rest)
		fprintf(out, ",%s", rest);
	return fclose(out) == 0 ? text : NULL;
}

char *monitors_with_protocol(const char *monitors)
{
	cleanup_free char *copy = strdup(monitors);
	struct monitor list[ASKED_MAX];
	char *rest = copy;
	unsigned count = 0;

	/* Brackets may hold commas: who writes them says the protocol himself. */
	if (!copy || strchr(monitors, '['))
		return take_ptr(copy);
	while (count < ASKED_MAX && rest) {
		struct monitor *monitor = &list[count++];

		monitor->address = strsep(&rest, ",");
		monitor->protocol = "";
		monitor->fd = needs_asking(monitor->address) ? begin_connect(monitor->address) : -1;
	}
	hear_all(list, count);
	return join(list, count, rest);
}
