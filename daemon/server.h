/*
 * The control server: listens on the unix socket, checks each peer, and runs its calls.
 *
 * Each connection has a thread of its own, so that a slow caller or a call that waits for a dead
 * cluster holds up nobody else. Connections, the length of a line and idle time are bounded.
 */
#pragma once

#include <jansson.h>

#include <stdbool.h>
#include <time.h>

#include "common/error.h"

struct reporter;
struct server;

struct server_config {
	const char *socket_path;
	const char *group; /* NULL: root (and the daemon's own user) alone */

	/* Runs one call: *ret_result is a new reference. On a connection's thread, several at once.
	 */
	int (*call)(void *data, const struct reporter *reporter, const char *method, json_t *params,
		    json_t **ret_result, struct error *err);
	void *data;
};

/* Listens from now on; connections are served once server_accept() is called. */
int server_create(const struct server_config *config, struct server **ret,
		  struct error *err) warn_unused;

/* The descriptor to poll for POLLIN, whereupon server_accept() takes what waits. Main thread. */
int server_fd(const struct server *server);
void server_accept(struct server *server);

/* Ends: no new connections and no new calls. Those that run go on. Once. */
void server_stop(struct server *server);

/*
 * After server_stop(): waits until the calls that run have been answered, until @deadline
 * (CLOCK_MONOTONIC). False if some still run then; the server may not be destroyed in that case.
 */
bool server_await(struct server *server, const struct timespec *deadline);

/* After server_await() returned true, or before anything was served. NULL is allowed. */
void server_destroy(struct server *server);
