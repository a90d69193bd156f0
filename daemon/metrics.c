#include "daemon/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "core/clock.h"
#include "daemon/stat.h"
#include "nbd/address.h"

#define CLIENTS_MAX  16
#define REQUEST_MAX  4096			/* bytes, headers included */
#define CLIENT_TIME  (5 * UINT64_C(1000000000)) /* ns from accept to the last byte */
#define POLL_MS	     1000
#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct client {
	int fd; /* -1: a free place */
	uint64_t since;
	char request[REQUEST_MAX + 1];
	size_t received;
	char *answer; /* NULL: the request is not whole yet */
	size_t length, sent;
};

struct metrics {
	struct devices *devices;
	struct exports *exports;
	char bound[NBD_ADDRESS_MAX];
	int listen_fd, stop_fd;
	pthread_t thread;
	struct client clients[CLIENTS_MAX];
};

static void drop(struct client *client)
{
	close(client->fd);
	free(client->answer);
	client->answer = NULL;
	client->fd = -1;
}

/* --- Answers ---------------------------------------------------------------------------------- */

/* malloc'ed, or NULL. */
static char *print_body(struct metrics *metrics, size_t *ret_length)
{
	char *body = NULL;
	FILE *out = open_memstream(&body, ret_length);

	if (!out)
		return NULL;
	stat_print_metrics(metrics->devices, metrics->exports, out);
	if (fclose(out) == 0)
		return body;
	free(body);
	return NULL;
}

static void answer(struct client *client, const char *status, const char *body, size_t length)
{
	FILE *out = open_memstream(&client->answer, &client->length);

	if (!out)
		return;
	fprintf(out,
		"HTTP/1.0 %s\r\nContent-Type: " CONTENT_TYPE
		"\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		status, length);
	fwrite(body, 1, length, out);
	fclose(out);
}

static void refuse(struct client *client, const char *status)
{
	answer(client, status, "", 0);
}

static void answer_metrics(struct metrics *metrics, struct client *client)
{
	size_t length = 0;
	cleanup_free char *body = print_body(metrics, &length);

	if (body)
		answer(client, "200 OK", body, length);
	else
		refuse(client, "503 Service Unavailable");
}

static bool asks_for_metrics(const char *path)
{
	return strncmp(path, "/metrics", 8) == 0 && strchr(" ?\r\n", path[8]);
}

static void handle_request(struct metrics *metrics, struct client *client)
{
	if (strncmp(client->request, "GET ", 4) != 0)
		refuse(client, "405 Method Not Allowed");
	else if (!asks_for_metrics(client->request + 4))
		refuse(client, "404 Not Found");
	else
		answer_metrics(metrics, client);
}

/* --- Clients ---------------------------------------------------------------------------------- */

static bool is_whole(const struct client *client)
{
	return strstr(client->request, "\r\n\r\n") || strstr(client->request, "\n\n");
}

static void receive(struct metrics *metrics, struct client *client)
{
	ssize_t got = recv(client->fd, client->request + client->received,
			   REQUEST_MAX - client->received, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		drop(client);
		return;
	}
	client->received += (size_t)got;
	client->request[client->received] = '\0';
	if (is_whole(client))
		handle_request(metrics, client);
	else if (client->received == REQUEST_MAX)
		refuse(client, "431 Request Header Fields Too Large");
	else
		return;
	if (!client->answer)
		drop(client);
}

static void send_some(struct client *client)
{
	ssize_t sent = send(client->fd, client->answer + client->sent,
			    client->length - client->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (sent > 0)
		client->sent += (size_t)sent;
	if (sent < 0 || client->sent == client->length)
		drop(client);
}

static void serve_client(struct metrics *metrics, struct client *client, short events)
{
	if (client->fd >= 0 && events && !client->answer)
		receive(metrics, client);
	else if (client->fd >= 0 && events)
		send_some(client);
	if (client->fd >= 0 && clock_monotonic_ns() - client->since > CLIENT_TIME)
		drop(client);
}

/* A free place, or that of who has been there longest. */
static struct client *make_room(struct metrics *metrics)
{
	struct client *oldest = &metrics->clients[0];

	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &metrics->clients[i];

		if (client->fd < 0)
			return client;
		if (client->since < oldest->since)
			oldest = client;
	}
	drop(oldest);
	return oldest;
}

static void accept_one(struct metrics *metrics)
{
	int fd = accept4(metrics->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			usleep(100 * 1000); /* until somebody gives one back */
		return;
	}
	client = make_room(metrics);
	client->fd = fd;
	client->since = clock_monotonic_ns();
	client->received = client->sent = client->length = 0;
}

/* --- The thread ------------------------------------------------------------------------------- */

static void fill_polls(const struct metrics *metrics, struct pollfd *fds)
{
	fds[0] = (struct pollfd){ .fd = metrics->stop_fd, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = metrics->listen_fd, .events = POLLIN };
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		fds[2 + i] = (struct pollfd){
			.fd = metrics->clients[i].fd,
			.events = metrics->clients[i].answer ? POLLOUT : POLLIN,
		};
}

static void *serve(void *data)
{
	struct metrics *metrics = data;
	struct pollfd fds[2 + CLIENTS_MAX];

	for (;;) {
		fill_polls(metrics, fds);
		if (poll(fds, ARRAY_SIZE(fds), POLL_MS) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		for (unsigned i = 0; i < CLIENTS_MAX; i++)
			serve_client(metrics, &metrics->clients[i], fds[2 + i].revents);
		if (fds[1].revents)
			accept_one(metrics);
	}
}

static void metrics_free(struct metrics *metrics)
{
	const char *path = nbd_address_path(metrics->bound);

	if (metrics->listen_fd >= 0) {
		close(metrics->listen_fd);
		if (path)
			unlink(path);
	}
	if (metrics->stop_fd >= 0)
		close(metrics->stop_fd);
	free(metrics);
}

static int begin(struct metrics *metrics, const char *address, struct error *err)
{
	int r = nbd_address_listen(address, 0600, &metrics->listen_fd, metrics->bound, err);

	if (r < 0)
		return error_prefix(err, "Cannot offer metrics: ");
	fcntl(metrics->listen_fd, F_SETFL, O_NONBLOCK);
	metrics->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (metrics->stop_fd < 0)
		return error_set(err, -errno, "Cannot make an eventfd: %s.", errno_text(errno));
	r = -pthread_create(&metrics->thread, NULL, serve, metrics);
	if (r < 0)
		return error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	pthread_setname_np(metrics->thread, "urbd-metrics");
	return 0;
}

int metrics_start(const char *address, struct devices *devices, struct exports *exports,
		  struct metrics **ret, struct error *err)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	int r;

	if (!metrics)
		return error_set(err, -ENOMEM, "Out of memory.");
	metrics->devices = devices;
	metrics->exports = exports;
	metrics->listen_fd = metrics->stop_fd = -1;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		metrics->clients[i].fd = -1;
	r = begin(metrics, address, err);
	if (r < 0) {
		metrics_free(metrics);
		return r;
	}
	*ret = metrics;
	return 0;
}

void metrics_stop(struct metrics *metrics)
{
	if (!metrics)
		return;
	eventfd_write(metrics->stop_fd, 1);
	pthread_join(metrics->thread, NULL);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (metrics->clients[i].fd >= 0)
			drop(&metrics->clients[i]);
	metrics_free(metrics);
}
