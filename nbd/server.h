/*
 * An NBD server: sockets that it listens on, and exports that its clients choose by name. The
 * connections are spread over the queues.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "core/image.h"
#include "core/queue.h"

#define NBD_SERVER_CONNECTIONS_DEFAULT 128
#define NBD_SERVER_DEPTH_DEFAULT       64
#define NBD_SERVER_HANDSHAKE_SECONDS   10

struct nbd_budget;
struct nbd_server;
struct nbd_tls_credentials;

struct nbd_server_config {
	struct queue *const *queues; /* copied */
	unsigned nr_queues;	     /* >= 1 */
	unsigned max_connections;    /* more are closed at once; 0 = default */
	unsigned depth;		     /* requests at once on a connection; 0 = default */
	unsigned handshake_seconds;  /* 0 = default */
	unsigned max_payload;	     /* bytes of one read or write; 0 = NBD_PAYLOAD_DEFAULT */

	/* For each queue: what its clients' buffers are taken from; the caller's; NULL: no limit.
	 */
	struct nbd_budget *budgets;

	/*
	 * A queue's thread, must not block; or NULL: a client from @peer ("" on a unix socket) was
	 * refused at @address. The strings are gone after it returns, but for @why.
	 */
	void (*refused)(const char *address, const char *peer, const char *why);

	/* Clients must use TLS where this is set; taken over by success of create. */
	struct nbd_tls_credentials *credentials;
};

/* Any thread, may block. */
int nbd_server_create(const struct nbd_server_config *config, struct nbd_server **ret,
		      struct error *err);

/* Stops listening, ends every connection as nbd_server_remove() does with @force, frees all. May
 * block as long as images hold requests. NULL is allowed. Not a queue thread. */
void nbd_server_destroy(struct nbd_server *server);

/*
 * Listens at @address: "unix:PATH" (mode 0600, or @mode if it is not 0; a dead socket that is in
 * the way is replaced) or "HOST:PORT" with an explicit address, "[ADDRESS]:PORT" for IPv6. Port 0
 * takes a free one. Any thread but a queue's; may block for name resolution.
 */
int nbd_server_listen(struct nbd_server *server, const char *address, unsigned mode,
		      struct error *err);

/* The NBD URI of @name at the server's @index-th address; false when there is no such address. */
bool nbd_server_uri(struct nbd_server *server, unsigned index, const char *name, char *uri,
		    size_t size);

/*
 * Offers @image under @name (1..4096 bytes, not in use; the first one is also the default export).
 * The image stays the caller's, in place until nbd_server_remove() has returned 0.
 */
int nbd_server_add(struct nbd_server *server, const char *name, const char *description,
		   struct image *image, bool read_only, struct error *err);

/*
 * Takes the export away: hides it, then ends its connections. Without @force each finishes what is
 * in flight and sends its replies; what is left after @seconds, or with @force, is cut off. Returns
 * once no connection uses the image any more, which takes as long as the image holds requests.
 * Not a queue thread.
 */
int nbd_server_remove(struct nbd_server *server, const char *name, bool force, unsigned seconds,
		      struct error *err);

/* Any thread, does not block: makes a nbd_server_remove() of @name that runs, or that is about to,
 * go on with force. */
void nbd_server_cut(struct nbd_server *server, const char *name);

/* Any thread, does not block: ends the connections that use the export, which stays; what they have
 * in flight gets no reply. */
void nbd_server_drop_clients(struct nbd_server *server, const char *name);

/* Any thread, does not block: the idle ones of these connections give the memory of their buffers
 * back. */
void nbd_server_trim(struct nbd_server *server, const char *name);

/* Connections that use the export @name now. */
unsigned nbd_server_clients(struct nbd_server *server, const char *name);
