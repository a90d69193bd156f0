/*
 * One NBD session, the server's half, as a state machine: bytes in, events and bytes out. It owns
 * no descriptor, thread or clock, so the same code serves a network client, the kernel's NBD
 * driver, unit tests and the fuzzer. Whoever moves the bytes is called the carrier:
 *
 *   receive  nbd_session_window() says where the next bytes go (payloads of large writes straight
 *            into their request's buffer); nbd_session_received() tells how many came.
 *   act      nbd_session_next() until it returns NBD_EVENT_NONE; requests go to image_submit(),
 *            and come back through nbd_session_complete().
 *   send     nbd_session_output() gives what waits, nbd_session_sent() takes off what went.
 *
 * All calls of one session come from one thread at a time (the connection's home queue). Requests
 * come from a pool made when transmission starts; while it is empty, or memory for a request's
 * buffer is short (see nbd/budget.h), there is no window, which is the session's back-pressure. A
 * request's slot is free again once its reply has been sent.
 *
 * Protocol facts: see nbd/protocol.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "core/image.h"
#include "core/request.h"

/* What a client can choose. Its owner keeps it in place while a session holds it. */
struct nbd_export {
	const char *name;	 /* 1..NBD_STRING_MAX bytes */
	const char *description; /* or NULL */
	struct image *image;
	bool read_only; /* refuse writes whatever the image can do */
};

/* Where sessions look for exports. Called on the session's thread; must not block for long. */
struct nbd_directory {
	/* The export of that name ("" asks for the default one) with a reference, or NULL. */
	struct nbd_export *(*get)(void *data, const char *name);

	/* Gives the reference back. */
	void (*put)(void *data, struct nbd_export *export);

	/* The export whose name follows @previous ("": the first one) in an order that holds while
	 * exports come and go, with a reference; NULL at the end. */
	struct nbd_export *(*next)(void *data, const char *previous);

	void *data;
};

enum nbd_tls {
	NBD_TLS_NONE,	 /* STARTTLS is refused */
	NBD_TLS_REQUIRED /* nothing else is answered before it */
};

struct nbd_session_config {
	unsigned depth;	      /* requests at once, 1..FRONTEND_DEPTH_MAX */
	uint32_t max_payload; /* largest read or write, NBD_PAYLOAD_MIN..NBD_PAYLOAD_DEFAULT */
	enum nbd_tls tls;
	const struct nbd_directory *directory; /* the caller's; NULL without a handshake */

	/* What the requests' buffers are taken from, home's; NULL: no limit. */
	struct nbd_budget *budget;

	/* With a budget: see to nbd_session_sent(), and then to all the rest, soon. Not from here.
	 */
	void (*wake)(void *data);

	/* Copied into every request. */
	struct queue *home;
	void (*done)(struct request *request);

	void *data; /* the carrier's own, see nbd_session_data(); wake's */
};

/*
 * Bytes that every request's own buffer holds; larger ones share a single one by turns. So this is
 * what clients are told to keep to, and what a chunk of a structured reply bears at most.
 */
#define NBD_PAYLOAD_MIN (1024u * 1024)

struct nbd_budget;
struct nbd_session;

enum nbd_event {
	NBD_EVENT_NONE,	     /* receive, send or complete something first */
	NBD_EVENT_SUBMIT,    /* pass the request to nbd_session_image() */
	NBD_EVENT_START_TLS, /* once: send all output, talk TLS, then nbd_session_tls_started() */
	NBD_EVENT_TRANSMIT,  /* once: the handshake is over */
	NBD_EVENT_CLOSE /* once: receive no more; close when the output is sent and nothing is in
			   flight */
};

/* A session for a network client, which begins with the handshake. */
int nbd_session_create(const struct nbd_session_config *config, struct nbd_session **ret);

/* A session straight in transmission on @export, for a peer that knows it all (the kernel). */
int nbd_session_create_transmitting(const struct nbd_session_config *config,
				    struct nbd_export *export, struct nbd_session **ret);

/* Nothing may be in flight. NULL is allowed. */
void nbd_session_destroy(struct nbd_session *session);

/*
 * Fills 0, 1 or 2 places for the next bytes, in order, none of them empty. 0: do not receive now.
 * What nbd_session_next() has not looked at yet takes up room.
 */
unsigned nbd_session_window(struct nbd_session *session, struct iovec window[2]);

/* @length > 0 bytes were put into the window. After the session's end they are ignored. */
void nbd_session_received(struct nbd_session *session, size_t length);

/* The next thing to do. *ret is set for NBD_EVENT_SUBMIT. */
enum nbd_event nbd_session_next(struct nbd_session *session, struct request **ret);

/* The image has completed @request (from its done()). Look at next() and output() afterwards. */
void nbd_session_complete(struct request *request);

/* The session that @request belongs to; and what its carrier put into the configuration. */
struct nbd_session *nbd_session_of(const struct request *request);
void *nbd_session_data(const struct nbd_session *session);

/* Up to @max pieces of what is to be sent, in order; they stay in place until sent. */
unsigned nbd_session_output(struct nbd_session *session, struct iovec *iov, unsigned max);

/* The first @length bytes of the output are on their way. */
void nbd_session_sent(struct nbd_session *session, size_t length);

/* The peer speaks TLS from now on; what it negotiated before is forgotten. */
void nbd_session_tls_started(struct nbd_session *session);

/* Ends the session from this side: takes no more from the peer; then NBD_EVENT_CLOSE follows. */
void nbd_session_shutdown(struct nbd_session *session);

/* The peer is gone: as shutdown, and drops all output, now and later. */
void nbd_session_abandon(struct nbd_session *session);

/*
 * Gives memory of the request buffers back, as long as none of them is in use: the piece of it that
 * begins at @position (0 at first). Returns where the next one begins, or 0 when there is none, or
 * the session is not idle.
 */
size_t nbd_session_trim(struct nbd_session *session, size_t position);

/* Requests that the image holds. Any thread may look. */
unsigned nbd_session_in_flight(const struct nbd_session *session);

/*
 * True when nothing hangs on nbd_session_sent(): only the peer's bytes and completions make the
 * session go on, and nobody waits for memory. Ask when it has no event left.
 */
bool nbd_session_at_rest(const struct nbd_session *session);

/* True while bytes wait to be sent. */
bool nbd_session_has_output(const struct nbd_session *session);

/* The export chosen, NULL during the handshake; and its image. */
struct nbd_export *nbd_session_export(const struct nbd_session *session);

/* Why the client was refused something that it needs for an export, or NULL. */
const char *nbd_session_refusal(const struct nbd_session *session);
struct image *nbd_session_image(const struct nbd_session *session);

/* What @export offers: NBD_FLAG_*, without those that depend on the session. */
uint16_t nbd_export_flags(const struct nbd_export *export);
