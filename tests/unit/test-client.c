/* The client against servers that answer well, late, wrongly, or not at all. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/client.h"
#include "control/codec.h"
#include "tests/unit/cmocka-all.h"

/* --- A server that takes one connection and answers each line with the next of its replies -----
 */

struct server {
	char directory[32], path[64];
	int listener, connection;
	const char *const *replies; /* up to NULL; then the connection is closed */
	pthread_t thread;
	char last[256]; /* the last line that came */
};

/* False when the client hung up. */
static bool read_request(struct server *server)
{
	size_t length = 0;
	char c;

	while (read(server->connection, &c, 1) == 1) {
		if (c == '\n') {
			server->last[length] = '\0';
			return true;
		}
		if (length < sizeof(server->last) - 1)
			server->last[length++] = c;
	}
	return false;
}

static void *serve(void *data)
{
	struct server *server = data;

	server->connection = accept(server->listener, NULL, NULL);
	for (const char *const *reply = server->replies; *reply && read_request(server); reply++)
		if (send(server->connection, *reply, strlen(*reply), MSG_NOSIGNAL) < 0)
			break;
	close(server->connection);
	return NULL;
}

static void server_listen(struct server *server)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*server = (struct server){ .directory = "/tmp/test-client-XXXXXX" };
	assert_non_null(mkdtemp(server->directory));
	snprintf(server->path, sizeof(server->path), "%s/sock", server->directory);
	strcpy(address.sun_path, server->path);
	server->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server->listener, 4), 0);
}

static struct control_client *server_start(struct server *server, const char *const *replies)
{
	struct control_client *client = NULL;
	struct error err = ERROR_NONE;

	server_listen(server);
	server->replies = replies;
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
	assert_int_equal(control_connect(server->path, &client, &err), 0);
	return client;
}

static void server_stop(struct server *server, struct control_client *client)
{
	control_disconnect(client);
	pthread_join(server->thread, NULL);
	close(server->listener);
	unlink(server->path);
	rmdir(server->directory);
}

/* --- Calls ------------------------------------------------------------------------------------ */

#define ANSWER(id) "{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"result\":{\"n\":" #id "}}\n"

static void expect_answer(struct control_client *client, int n)
{
	struct error err = ERROR_NONE;
	json_t *result = NULL;

	if (control_call(client, "list", NULL, 10, &result, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(json_integer_value(json_object_get(result, "n")), n);
	json_decref(result);
}

static void expect_failure(struct control_client *client, int code, const char *word)
{
	struct error err = ERROR_NONE;
	json_t *result = (json_t *)&err;

	assert_int_equal(control_call(client, "list", NULL, 1, &result, &err), code);
	assert_int_equal(err.code, code);
	assert_ptr_equal(result, &err);
	if (!strstr(err.text, word))
		fail_msg("no '%s' in: %s", word, err.text);
}

static void answers_come_back(void **state)
{
	static const char *const replies[] = { ANSWER(1), ANSWER(2), NULL };
	struct server server;
	struct control_client *client = server_start(&server, replies);

	expect_answer(client, 1);
	expect_answer(client, 2);
	server_stop(&server, client);
	assert_string_equal(server.last,
			    "{\"jsonrpc\":\"2.0\",\"method\":\"list\",\"params\":{},\"id\":2}");
}

static void errors_come_back(void **state)
{
	static const char *const replies[] = { "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-"
					       "32000,\"message\":\"It is gone.\","
					       "\"data\":{\"errno\":\"ENOENT\"}}}\n",
					       "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{"
					       "\"code\":-32700,\"message\":\"What?\"}}\n",
					       ANSWER(3), NULL };
	struct server server;
	struct control_client *client = server_start(&server, replies);

	expect_failure(client, -ENOENT, "It is gone.");
	expect_failure(client, -EPROTO, "What?");
	expect_answer(client, 3);
	server_stop(&server, client);
}

static void count_progress(const char *text, void *data)
{
	assert_string_equal(text, "ours");
	++*(int *)data;
}

static void progress_is_reported(void **state)
{
	static const char *const replies[] = {
		"{\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"id\":1,\"text\":"
		"\"ours\"}}\n"
		"{\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"id\":9,\"text\":\"no\"}"
		"}\n"
		"{\"jsonrpc\":\"2.0\",\"method\":\"news\",\"params\":{\"id\":1,\"text\":\"no\"}}\n"
		"{\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"id\":1,\"text\":"
		"\"ours\"}}\n" ANSWER(1),
		NULL
	};
	struct server server;
	struct control_client *client = server_start(&server, replies);
	int count = 0;

	control_on_progress(client, count_progress, &count);
	expect_answer(client, 1);
	assert_int_equal(count, 2);
	server_stop(&server, client);
}

static void late_answers_are_dropped(void **state)
{
	static const char *const replies[] = {
		"",
		ANSWER(1) "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,"
			  "\"message\":\"Late.\"}}\n" ANSWER(2),
		NULL
	};
	struct server server;
	struct control_client *client = server_start(&server, replies);

	expect_failure(client, -ETIMEDOUT, "within 1 seconds");
	expect_answer(client, 2);
	server_stop(&server, client);
}

static void closed_connections_are_told(void **state)
{
	static const char *const replies[] = { "{\"jsonrpc\":\"2.0\",\"id\":1,\"res", NULL };
	struct server server;
	struct control_client *client = server_start(&server, replies);

	expect_failure(client, -ECONNRESET, "closed the connection");
	expect_failure(client, -ENOTCONN, "earlier call");
	server_stop(&server, client);
}

static void other_protocols_are_told(void **state)
{
	static const char *const replies[] = { "SSH-2.0-OpenSSH_9.2\n", NULL };
	struct server server;
	struct control_client *client = server_start(&server, replies);

	expect_failure(client, -EPROTO, "right socket");
	server_stop(&server, client);
}

static void long_requests_are_not_sent(void **state)
{
	static const char *const replies[] = { ANSWER(2), NULL };
	struct server server;
	struct control_client *client = server_start(&server, replies);
	char *text = calloc(1, CONTROL_REQUEST_MAX + 1);
	struct error err = ERROR_NONE;
	json_t *result;

	memset(text, 'x', CONTROL_REQUEST_MAX);
	assert_int_equal(control_call(client, "map", json_pack("{s:s}", "image", text), 10, &result,
				      &err),
			 -EMSGSIZE);
	expect_answer(client, 2);
	free(text);
	server_stop(&server, client);
}

/* --- Connecting ------------------------------------------------------------------------------- */

static void absent_daemons_are_told(void **state)
{
	struct control_client *client = (struct control_client *)state;
	struct error err = ERROR_NONE;
	struct server server;
	char path[200];

	assert_int_equal(control_connect("/nonexistent/sock", &client, &err), -ENOENT);
	assert_non_null(strstr(err.text, "is urbdd running?"));
	assert_non_null(strstr(err.text, "systemctl start urbd"));
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(control_connect(path, &client, &err), -ENAMETOOLONG);

	server_listen(&server);
	close(server.listener);
	assert_int_equal(control_connect(server.path, &client, &err), -ECONNREFUSED);
	assert_non_null(strstr(err.text, "is urbdd running?"));
	assert_ptr_equal(client, state);
	unlink(server.path);
	rmdir(server.directory);
}

static void the_environment_names_the_socket(void **state)
{
	unsetenv(CONTROL_SOCKET_ENV);
	assert_string_equal(control_socket_path(NULL), CONTROL_SOCKET_DEFAULT);
	setenv(CONTROL_SOCKET_ENV, "", 1);
	assert_string_equal(control_socket_path(NULL), CONTROL_SOCKET_DEFAULT);
	setenv(CONTROL_SOCKET_ENV, "/env", 1);
	assert_string_equal(control_socket_path(NULL), "/env");
	assert_string_equal(control_socket_path("/given"), "/given");
	unsetenv(CONTROL_SOCKET_ENV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_come_back),
		cmocka_unit_test(errors_come_back),
		cmocka_unit_test(progress_is_reported),
		cmocka_unit_test(late_answers_are_dropped),
		cmocka_unit_test(closed_connections_are_told),
		cmocka_unit_test(other_protocols_are_told),
		cmocka_unit_test(long_requests_are_not_sent),
		cmocka_unit_test(absent_daemons_are_told),
		cmocka_unit_test(the_environment_names_the_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
