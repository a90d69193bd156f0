/*
 * Calling urbdd. One thread at a time; calls on one connection follow each other. Blocking, with a
 * deadline for each call.
 */
#pragma once

#include <jansson.h>

#include "common/cleanup.h"
#include "common/error.h"

#define CONTROL_SOCKET_DEFAULT "/run/urbd/urbd.sock"
#define CONTROL_SOCKET_ENV     "URBD_SOCKET"

struct control_client;

/* @socket_path, or where it is NULL or "" $URBD_SOCKET, or else the default. */
const char *control_socket_path(const char *socket_path);

/*
 * Connects to the socket (see control_socket_path()). -ENOENT, -ECONNREFUSED, -EACCES ...: the
 * sentence says how to get urbdd started.
 */
int control_connect(const char *socket_path, struct control_client **ret,
		    struct error *err) warn_unused;

/* NULL is allowed. */
void control_disconnect(struct control_client *client);

/* @report is called within control_call() for each progress message of that call. NULL: none. */
void control_on_progress(struct control_client *client,
			 void (*report)(const char *text, void *data), void *data);

/*
 * Sends one call and waits up to @timeout_s seconds for its answer; 0 waits for ever. The reference
 * to @params (NULL: none) is taken, also on failure. *ret_result: a new reference.
 *
 * An error of urbdd fills @err with its errno and sentence. -ETIMEDOUT: no answer in time, and what
 * was asked may still happen; the answer is then dropped when it comes. -ECONNRESET: urbdd closed
 * the connection. -EMSGSIZE: the params are too long. -EPROTO: what came is no answer.
 */
int control_call(struct control_client *client, const char *method, json_t *params,
		 unsigned timeout_s, json_t **ret_result, struct error *err) warn_unused;

static inline void cleanup_control_client_fn(struct control_client **client)
{
	control_disconnect(*client);
}

static inline void cleanup_json_fn(json_t **json)
{
	json_decref(*json);
}

#define cleanup_control_client cleanup(cleanup_control_client_fn)
#define cleanup_json	       cleanup(cleanup_json_fn)
