/*
 * A session on a stream socket, carried by one core queue. The queue's thread receives, submits and
 * sends; nothing is allocated after the handshake.
 *
 * A connection ends by itself when the peer leaves, breaks the protocol or fails the handshake in
 * time, or through nbd_connection_stop(). Either way it first waits for the requests that the image
 * holds, because their buffers live here; then it closes the socket, tells its owner through
 * closed(), and frees itself.
 */
#pragma once

#include "nbd/session.h"

struct nbd_connection;
struct nbd_tls_credentials;

struct nbd_connection_config {
	struct queue *queue; /* home */
	int fd;		     /* a connected stream socket; taken over by success of create */

	/* home, done and wake are filled in here. */
	struct nbd_session_config session;

	/* For a peer that begins with transmission; NULL: handshake. */
	struct nbd_export *export;

	/* For session.tls == NBD_TLS_REQUIRED. */
	struct nbd_tls_credentials *credentials;

	/* Seconds that the handshake may take, 0 = any. */
	unsigned handshake_seconds;

	/* Queue thread, or NULL: the client has chosen @export, transmission begins. */
	void (*chosen)(struct nbd_connection *connection, struct nbd_export *export, void *data);

	/*
	 * Queue thread; the connection is freed after it returns, so that nbd_connection_stop()
	 * must not be called once it has begun: hold a lock over both.
	 */
	void (*closed)(struct nbd_connection *connection, void *data);
	void *data;
};

enum nbd_stop {
	NBD_STOP_DRAIN, /* take nothing more, answer what is in flight, close */
	NBD_STOP_NOW	/* close the socket at once, swallow what is in flight */
};

/* Any thread. Nothing happens before nbd_connection_start(). */
int nbd_connection_create(const struct nbd_connection_config *config, struct nbd_connection **ret);

/* Frees a connection that was never started; the descriptor stays the caller's. */
void nbd_connection_discard(struct nbd_connection *connection);

/* Any thread, once, does not block. From here on the connection may end and be freed. */
void nbd_connection_start(struct nbd_connection *connection);

/* Any thread, any number of times (the strictest counts), does not block. */
void nbd_connection_stop(struct nbd_connection *connection, enum nbd_stop how);

/*
 * Any thread, does not block: gives the memory of the request buffers back, unless the connection
 * is in use. The same holds as for nbd_connection_stop().
 */
void nbd_connection_trim(struct nbd_connection *connection);

/* Queue thread: the session, to look at. */
const struct nbd_session *nbd_connection_session(const struct nbd_connection *connection);

/* Queue thread: why the client was refused, or NULL. A static string. */
const char *nbd_connection_refusal(const struct nbd_connection *connection);

/* Any thread: requests that the image holds at about this moment. */
unsigned nbd_connection_in_flight(const struct nbd_connection *connection);
