#include "daemon/connection.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/cleanup.h"
#include "common/macros.h"
#include "control/codec.h"
#include "control/schema.h"
#include "control/secrets.h"
#include "daemon/reporter.h"

#define IDLE_TIMEOUT 60 /* seconds that a peer may keep a thread without a word */
#define SEND_TIMEOUT 20 /* seconds that it may leave an answer untaken */

struct connection {
	int fd;
	int (*call)(void *data, const struct reporter *reporter, const char *method, json_t *params,
		    json_t **ret_result, struct error *err);
	void *data;
	struct line_reader reader;
};

static void set_timeouts(int fd)
{
	const struct timeval receive = { .tv_sec = IDLE_TIMEOUT };
	const struct timeval send = { .tv_sec = SEND_TIMEOUT };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof(receive));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof(send));
}

static int send_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return sent < 0 ? -errno : -EPIPE;
		text += sent;
		length -= (size_t)sent;
	}
	return 0;
}

/* Takes @message over. */
static int send_message(struct connection *connection, json_t *message)
{
	size_t length;
	char *line = message ? control_encode(message, &length) : NULL;
	int r = -ENOMEM;

	json_decref(message);
	if (line)
		r = send_all(connection->fd, line, length);
	secret_free(line);
	return r;
}

/* The caller of one request, for the time of the call. */
struct caller {
	struct connection *connection;
	json_t *id;
};

/*
 * A peer that leaves its messages untaken misses this one, rather than hold up the call. So short a
 * line goes into a unix socket as a whole or not at all.
 */
static void send_progress(void *data, const char *text)
{
	struct caller *caller = data;
	json_t *message = control_progress(caller->id, text);
	cleanup_free char *line = NULL;
	size_t length;

	if (message)
		line = control_encode(message, &length);
	json_decref(message);
	if (line)
		(void)!send(caller->connection->fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Either the process is gone or it has closed the socket. One that merely says no more
 * (shutdown(2) for writing) waits for its answer.
 */
static bool has_hung_up(void *data)
{
	struct caller *caller = data;
	struct pollfd peer = { .fd = caller->connection->fd };

	return poll(&peer, 1, 0) > 0 && (peer.revents & POLLHUP);
}

/* The answer to a call: what the method gave, or why it is refused. */
static json_t *answer(struct connection *connection, const struct control_message *message)
{
	struct caller caller = { connection, message->id };
	const struct reporter reporter = { .report = send_progress,
					   .data = &caller,
					   .gone = has_hung_up };
	struct error err = ERROR_NONE;
	json_t *result = NULL;
	int r;

	r = control_check_params(message->method, message->params, &err);
	if (r == -ENOSYS)
		return control_error(message->id, CONTROL_NO_SUCH_METHOD, &err);
	if (r < 0)
		return control_error(message->id, CONTROL_INVALID_PARAMS, &err);
	r = connection->call(connection->data, &reporter, message->method, message->params, &result,
			     &err);
	if (r < 0)
		return control_error(message->id, CONTROL_FAILED, &err);
	return control_result(message->id, result);
}

static int handle_line(struct connection *connection, char *line, size_t length)
{
	struct control_message message;
	int r = 0;

	control_parse(line, length, &message);
	explicit_bzero(line, length);
	if (message.type == CONTROL_REQUEST)
		r = send_message(connection, answer(connection, &message));
	else if (message.type == CONTROL_MALFORMED)
		r = send_message(connection,
				 control_error(message.id, message.code, &message.error));
	control_message_deinit(&message);
	return r;
}

static void refuse_long_line(struct connection *connection)
{
	struct error err = ERROR_NONE;

	error_set(&err, -EMSGSIZE, "The line is longer than %u bytes.", CONTROL_REQUEST_MAX);
	send_message(connection, control_error(NULL, CONTROL_INVALID_REQUEST, &err));
}

/* Handles every whole line that was read. Negative when the connection is to end. */
static int handle_lines(struct connection *connection)
{
	size_t length;
	char *line;
	int r;

	while ((r = line_reader_next(&connection->reader, &line, &length)) > 0) {
		r = handle_line(connection, line, length);
		if (r < 0)
			return r;
	}
	if (r == -EMSGSIZE)
		refuse_long_line(connection);
	return r;
}

void connection_serve(int fd,
		      int (*call)(void *data, const struct reporter *reporter, const char *method,
				  json_t *params, json_t **ret_result, struct error *err),
		      void *data)
{
	struct connection connection = {
		.fd = fd, .call = call, .data = data, .reader = LINE_READER(CONTROL_REQUEST_MAX)
	};
	ssize_t got;

	set_timeouts(fd);
	do {
		got = line_reader_fill(&connection.reader, fd);
		if (got > 0 && handle_lines(&connection) < 0)
			break;
	} while (got > 0 || got == -EINTR);
	line_reader_deinit(&connection.reader);
}
