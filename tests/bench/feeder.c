#include "tests/bench/feeder.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST_BYTES 28
#define REPLY_BYTES   16

/* As many requests as are there are received at once. */
#define INPUT_REQUESTS 64

/* A first message of the server's lets it begin. */
#define BEGIN 'b'

struct message {
	uint32_t tag;
	uint8_t rest[REQUEST_BYTES - sizeof(uint32_t)];
};

static int send_all(int fd, struct message *message, size_t header, const uint8_t *payload,
		    size_t length)
{
	struct iovec pieces[] = { { message, header }, { (void *)payload, length } };
	struct msghdr what = { .msg_iov = pieces, .msg_iovlen = 2 };
	ssize_t sent;

	while ((sent = sendmsg(fd, &what, MSG_NOSIGNAL)) >= 0) {
		for (unsigned i = 0; i < 2; i++) {
			size_t done =
				(size_t)sent < pieces[i].iov_len ? (size_t)sent : pieces[i].iov_len;

			pieces[i].iov_base = (uint8_t *)pieces[i].iov_base + done;
			pieces[i].iov_len -= done;
			sent -= (ssize_t)done;
		}
		if (pieces[1].iov_len == 0 && pieces[0].iov_len == 0)
			return 0;
	}
	return -errno;
}

/* ---- the client */

static bool receive_reply(int fd, struct message *reply, uint8_t *payload, size_t length)
{
	struct iovec pieces[] = { { reply, REPLY_BYTES }, { payload, length } };
	struct msghdr what = { .msg_iov = pieces, .msg_iovlen = 2 };

	return recvmsg(fd, &what, MSG_WAITALL) == (ssize_t)(REPLY_BYTES + length);
}

static _Noreturn void be_client(const struct feeder *feeder, int fd)
{
	size_t sends = feeder->writes ? feeder->block : 0, gets = feeder->block - sends;
	uint8_t *payload = calloc(1, feeder->block);
	struct message message = { 0 };
	char begin;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!payload || recv(fd, &begin, 1, 0) != 1)
		_exit(1);
	for (message.tag = 0; message.tag < feeder->depth; message.tag++)
		if (send_all(fd, &message, REQUEST_BYTES, payload, sends) < 0)
			_exit(1);
	while (receive_reply(fd, &message, payload, gets))
		if (send_all(fd, &message, REQUEST_BYTES, payload, sends) < 0)
			break;
	_exit(0);
}

int feeder_fork(struct feeder *feeder)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(pair[0]);
		be_client(feeder, pair[1]);
	}
	close(pair[1]);
	feeder->fd = pair[0];
	feeder->client = pid;
	return 0;
}

/* ---- the server */

static size_t request_bytes(const struct feeder *feeder)
{
	return REQUEST_BYTES + (feeder->writes ? feeder->block : 0);
}

/* What is left of the last one moves to the front. */
static size_t take_requests(struct feeder *feeder, uint8_t *input, size_t filled)
{
	size_t each = request_bytes(feeder), at;
	struct message message;

	for (at = 0; filled - at >= each; at += each) {
		memcpy(&message, input + at, sizeof(message));
		feeder->request(message.tag, input + at + REQUEST_BYTES);
	}
	memmove(input, input + at, filled - at);
	return filled - at;
}

static void *receive(void *data)
{
	struct feeder *feeder = data;
	size_t size = request_bytes(feeder) * INPUT_REQUESTS, filled = 0;
	uint8_t *input = malloc(size);
	ssize_t got = 0;

	while (input && (got = recv(feeder->fd, input + filled, size - filled, 0)) > 0)
		filled = take_requests(feeder, input, filled + (size_t)got);
	feeder->ended(!input ? -ENOMEM : got < 0 ? -errno : -ECONNRESET);
	free(input);
	return NULL;
}

int feeder_begin(struct feeder *feeder)
{
	const char begin = BEGIN;
	pthread_t thread;
	int r = pthread_create(&thread, NULL, receive, feeder);

	if (r > 0)
		return -r;
	pthread_detach(thread);
	return send(feeder->fd, &begin, 1, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int feeder_reply(struct feeder *feeder, unsigned tag, const uint8_t *payload)
{
	struct message message = { .tag = tag };

	return send_all(feeder->fd, &message, REPLY_BYTES, payload,
			feeder->writes ? 0 : feeder->block);
}

void feeder_end(struct feeder *feeder)
{
	shutdown(feeder->fd, SHUT_RDWR);
	waitpid(feeder->client, NULL, 0);
}
