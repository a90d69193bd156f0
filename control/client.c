#include "control/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/deadline.h"
#include "control/codec.h"
#include "control/secrets.h"

#define CONNECT_TIMEOUT 10 /* seconds until urbdd takes the connection */

struct control_client {
	int fd; /* -1 after a failure that leaves the stream in an unknown state */
	struct line_reader reader;
	json_int_t next_id;
	void (*report)(const char *text, void *data);
	void *report_data;
};

const char *control_socket_path(const char *socket_path)
{
	const char *env = getenv(CONTROL_SOCKET_ENV);

	if (socket_path && *socket_path)
		return socket_path;
	return env && *env ? env : CONTROL_SOCKET_DEFAULT;
}

/* --- Connecting ------------------------------------------------------------------------------- */

static int connect_failed(const char *path, int code, struct error *err)
{
	const char *advice = "";

	if (code == -ENOENT || code == -ECONNREFUSED)
		advice = "; is urbdd running? Start it with 'systemctl start urbd'";
	else if (code == -EACCES || code == -EPERM)
		advice = "; run this as root, or as a user who may open that socket (is urbdd "
			 "running?)";
	else if (code == -EAGAIN)
		return error_set(
			err, -ETIMEDOUT,
			"urbdd at %s takes no connection; its log may say why: 'journalctl "
			"-u urbd'.",
			path);
	return error_set(err, code, "Cannot connect to urbdd at %s: %s%s.", path, errno_text(code),
			 advice);
}

static int fill_address(const char *path, struct sockaddr_un *address, struct error *err)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "The socket path %s is too long: %zu bytes are allowed.", path,
				 sizeof(address->sun_path) - 1);
	strcpy(address->sun_path, path);
	return 0;
}

/* Connecting itself blocks, bounded by the send timeout (unix(7)); all that follows polls. */
static int open_socket(const char *path, int *ret, struct error *err)
{
	const struct timeval timeout = { .tv_sec = CONNECT_TIMEOUT };
	cleanup_close int fd = -1;
	struct sockaddr_un address;
	int r;

	r = fill_address(path, &address, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, -errno, "Cannot make a socket: %s.", errno_text(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return connect_failed(path, -errno, err);
	*ret = take_fd(&fd);
	return 0;
}

int control_connect(const char *socket_path, struct control_client **ret, struct error *err)
{
	struct control_client *client;
	int r, fd = -1;

	r = open_socket(control_socket_path(socket_path), &fd, err);
	if (r < 0)
		return r;
	client = calloc(1, sizeof(*client));
	if (!client) {
		close(fd);
		return error_set(err, -ENOMEM, "Out of memory.");
	}
	client->fd = fd;
	client->reader = LINE_READER(CONTROL_ANSWER_MAX);
	client->next_id = 1;
	*ret = client;
	return 0;
}

static void hang_up(struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

void control_disconnect(struct control_client *client)
{
	if (!client)
		return;
	hang_up(client);
	line_reader_deinit(&client->reader);
	free(client);
}

void control_on_progress(struct control_client *client,
			 void (*report)(const char *text, void *data), void *data)
{
	client->report = report;
	client->report_data = data;
}

/* --- Waiting ---------------------------------------------------------------------------------- */

struct call {
	const char *method;
	json_int_t id;
	unsigned timeout; /* seconds, 0 = none */
	struct timespec deadline;
	struct error *err;
};

static int wait_for(struct control_client *client, short events, const struct call *call)
{
	struct pollfd pfd = { .fd = client->fd, .events = events };
	int left = call->timeout ? deadline_left_ms(&call->deadline) : -1;
	int n;

	if (left == 0)
		return error_set(call->err, -ETIMEDOUT,
				 "urbdd has not answered \"%s\" within %u seconds; it may still "
				 "carry it out (see urbd list).",
				 call->method, call->timeout);
	n = poll(&pfd, 1, left);
	if (n < 0 && errno != EINTR)
		return error_set(call->err, -errno, "Cannot wait for urbdd: %s.",
				 errno_text(errno));
	return 0;
}

static int lost(const struct call *call, int code)
{
	if (code == 0 || code == -EPIPE || code == -ECONNRESET)
		return error_set(call->err, -ECONNRESET,
				 "urbdd closed the connection without an answer to \"%s\"; its log "
				 "may say why: 'journalctl -u urbd'.",
				 call->method);
	return error_set(call->err, code, "The connection to urbdd broke: %s.", errno_text(code));
}

static int send_line(struct control_client *client, const char *line, size_t length,
		     const struct call *call)
{
	while (length > 0) {
		ssize_t n = send(client->fd, line, length, MSG_NOSIGNAL);
		int r = 0;

		if (n >= 0) {
			line += n;
			length -= (size_t)n;
		} else if (errno == EAGAIN) {
			r = wait_for(client, POLLOUT, call);
		} else if (errno != EINTR) {
			r = lost(call, -errno);
		}
		if (r < 0) {
			hang_up(client); /* half a line is out: nothing can follow it */
			return r;
		}
	}
	return 0;
}

/* One more piece of the stream, or the end of it as an error. */
static int receive(struct control_client *client, const struct call *call)
{
	ssize_t n = line_reader_fill(&client->reader, client->fd);

	if (n > 0 || n == -EINTR)
		return 0;
	if (n == -EAGAIN)
		return wait_for(client, POLLIN, call);
	hang_up(client);
	return lost(call, (int)n);
}

/* --- Calling ---------------------------------------------------------------------------------- */

static bool id_is(json_t *id, json_int_t number)
{
	return json_is_integer(id) && json_integer_value(id) == number;
}

static void report(struct control_client *client, const struct control_message *message,
		   json_int_t id)
{
	const char *text = json_string_value(json_object_get(message->params, "text"));

	if (client->report && text && strcmp(message->method, "progress") == 0 &&
	    id_is(json_object_get(message->params, "id"), id))
		client->report(text, client->report_data);
}

/* 1: @message answered the call; 0: it was something else; or the call's failure. */
static int take(struct control_client *client, const struct control_message *message,
		const struct call *call, json_t **ret)
{
	switch (message->type) {
	case CONTROL_NOTIFICATION:
		report(client, message, call->id);
		return 0;
	case CONTROL_RESULT:
		if (!id_is(message->id, call->id))
			return 0; /* the late answer of a call that ran out of time */
		*ret = json_incref(message->result);
		return 1;
	case CONTROL_ERROR:
		if (!json_is_null(message->id) && !id_is(message->id, call->id))
			return 0;
		*call->err = message->error;
		return call->err->code;
	default:
		hang_up(client);
		return error_set(call->err, -EPROTO,
				 "What answers at the socket does not speak urbdd's protocol; is "
				 "it the right socket?");
	}
}

static int next_line(struct control_client *client, const struct call *call, char **ret,
		     size_t *ret_length)
{
	int r;

	while ((r = line_reader_next(&client->reader, ret, ret_length)) == 0) {
		r = receive(client, call);
		if (r < 0)
			return r;
	}
	if (r < 0) {
		hang_up(client);
		return error_set(call->err, r, "urbdd's answer to \"%s\" is too long.",
				 call->method);
	}
	return 0;
}

static int await_answer(struct control_client *client, const struct call *call, json_t **ret)
{
	int r = 0;

	while (r == 0) {
		struct control_message message;
		size_t length;
		char *line;

		r = next_line(client, call, &line, &length);
		if (r < 0)
			return r;
		control_parse(line, length, &message);
		r = take(client, &message, call, ret);
		control_message_deinit(&message);
	}
	return r;
}

static int exchange(struct control_client *client, json_t *request, const struct call *call,
		    json_t **ret)
{
	cleanup_secret char *line = NULL;
	size_t length;
	int r;

	if (client->fd < 0)
		return error_set(call->err, -ENOTCONN,
				 "The connection to urbdd broke in an earlier call.");
	line = request ? control_encode(request, &length) : NULL;
	if (!line)
		return error_set(call->err, -ENOMEM, "Out of memory.");
	if (length - 1 > CONTROL_REQUEST_MAX)
		return error_set(call->err, -EMSGSIZE,
				 "The request is too long: %zu bytes, %u are allowed.", length - 1,
				 CONTROL_REQUEST_MAX);
	r = send_line(client, line, length, call);
	return r < 0 ? r : await_answer(client, call, ret);
}

int control_call(struct control_client *client, const char *method, json_t *params,
		 unsigned timeout_s, json_t **ret_result, struct error *err)
{
	const struct call call = {
		.method = method,
		.id = client->next_id++,
		.timeout = timeout_s,
		.deadline = deadline_in(timeout_s),
		.err = err,
	};
	cleanup_json json_t *request = control_request(call.id, method, params);
	int r = exchange(client, request, &call, ret_result);

	return r < 0 ? r : 0;
}
