/*
 * Inside of the daemon's exports: shared by exports.c (the table), export.c (one export),
 * unexport.c, export_set.c and export_replace.c.
 *
 * An export is in the table from before its image is opened until it is closed: opening → live
 * (→ changing → live) → stopping. Whoever moves it to `opening`, `changing` (→ live, blocked) or
 * `stopping` works on it without the lock. A blocked one has no image that serves it: its I/O is
 * held, and a thread looks for one (→ live). An end by force does not wait for whoever changes it
 * or looks for its image: they give way when they can, and the export is freed when they have.
 *
 * "With the lock" is exports->lock. Functions without that remark take it themselves, and are for
 * whoever works on the export, on any thread but a queue's.
 */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/deadline.h"
#include "common/list.h"
#include "common/sweeper.h"
#include "daemon/exports.h"
#include "daemon/opener.h"
#include "daemon/trim.h"

/* A file's whole path with its type. What is longer is no name of an export either. */
#define EXPORT_SPEC_MAX (PATH_MAX + 16)

#define EXPORT_FORMER_MAX 256

enum export_state { EXPORT_OPENING, EXPORT_LIVE, EXPORT_CHANGING, EXPORT_BLOCKED, EXPORT_STOPPING };

struct daemon_export {
	struct list entry;
	struct exports *exports;
	unsigned long id;
	enum export_state state;
	json_t *names;	/* {type, pool, namespace, image, snapshot} */
	json_t *access; /* see access.h; `settings` of it changes, with the lock */
	char *name, *listen;
	char *uri; /* once live */
	bool read_only, exclusive;
	struct address *address; /* of whoever works on it, or while live */
	struct opened opened;	 /* its image is that of the gate */
	struct gate *gate;	 /* until its image is closed */
	struct idleness idleness;
	bool closed;   /* its image could not be opened again: every request fails */
	bool given_up; /* it ends, and its image may hold requests for ever: nobody waits for it */
	bool in_work;  /* of who changes it or looks for its image */
	bool forsaken; /* in work, and nobody does it: the replacer finds a thread for that */
	unsigned closing;		/* images that it had and that are being closed */
	atomic_bool cut_off;		/* its client is; set on any thread */
	char former[EXPORT_FORMER_MAX]; /* the client that was, see image/fence.h; "": none */
	bool former_held;		/* it had the lock to the end */
	atomic_uint forcing;		/* it ends by force: whoever works on it gives way */
	char reason[ERROR_TEXT_MAX];	/* why it is blocked */
	bool force;			/* of its end */
	unsigned timeout;		/* likewise */
};

struct exports {
	struct queues *queues;
	struct client_pool *clients;
	struct addresses *addresses;
	struct export_address first; /* what start-up listens at; strings are its address's */

	pthread_mutex_t lock; /* the table */
	pthread_cond_t changed;
	struct list table;
	struct sweeper replacer; /* woken when an export is `cut_off` or `forsaken` */

	unsigned long last_id;
};

/* export.c */

/* In no table, with nothing open. NULL: out of memory. */
struct daemon_export *export_new(struct exports *exports, const struct export_request *request);
void export_free(struct daemon_export *export);

/* Opens the image and offers it. What it has so far stays after a failure: export_close(). */
int export_open(struct daemon_export *export, const struct export_request *request,
		struct error *err) warn_unused;

/* Waits for whoever works on it, and for its images, however long; then it is gone. */
void export_close(struct daemon_export *export);

/* With the lock. */
void export_set_state(struct daemon_export *export, enum export_state state);

/* A gate's `cut_off`; @data is its export. */
void export_cut_off(void *data);

/* With the lock, of one that is live: why it serves nobody, or NULL. */
const char *export_failure(const struct daemon_export *export);

/* With the lock: whoever worked on it does so no more, and it may be gone. */
void export_end_work(struct daemon_export *export, enum export_state state);

/* Whether it ends by force, so that whoever works on it gives way. */
bool export_is_forced(struct daemon_export *export);

void export_set_reason(struct daemon_export *export, const char *reason);

/* Closes @opened on a thread of its own, because a cluster that does not answer takes its time.
 * Where there is none, it is closed on the spot. */
void export_close_aside(struct daemon_export *export, struct opened *opened);

/* False when it is still being closed at @deadline, or the export is to end. */
bool export_await_closed(struct daemon_export *export, const struct timespec *deadline);

/* unexport.c */

/*
 * With the lock: the one that @request names. Waits for one that is being opened: it is live then,
 * or was never there.
 */
int export_find(struct exports *exports, const struct unexport_request *request,
		struct daemon_export **ret, struct error *err) warn_unused;

/* -ENXIO with the sentence for it. */
int export_not_found(const struct unexport_request *request, struct error *err);

/* With the lock: clients get @timeout seconds, or none by @force; it ends on a thread of its own.
 */
int export_begin_end(struct daemon_export *export, bool force, unsigned timeout, struct error *err);

/* export_replace.c */

/* What it takes to open its image once more; strings are the export's. */
void export_reopen_request(const struct daemon_export *export, struct map_request *ret);

/* Opens the image of one that has none, and its I/O goes on. Nothing is held after a failure. */
int export_reopen(struct daemon_export *export, struct opener_tries *tries,
		  const struct timespec *deadline, struct error *err) warn_unused;

/* Of who works on one without an image, and does so no more: a thread goes on with it. */
void export_await_image(struct daemon_export *export, const char *reason);

/* A sweep; @data is struct exports. What somebody else works on is looked at again when
 * that is over. */
bool exports_replace(void *data);
