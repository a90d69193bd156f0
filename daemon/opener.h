/*
 * Opens what a map request names: the client where one is needed, the image, the fault wrapper.
 *
 * In two steps, because an image that this daemon has open already counts like everybody else's:
 * whoever keeps a table of images asks it in between.
 */
#pragma once

#include <errno.h>
#include <time.h>

#include "core/image.h"
#include "daemon/map_request.h"

/* What people are told of an image with info.gone. */
#define IMAGE_GONE "its image was removed from the cluster; what it held is lost"

struct client_pool;
struct pooled_client;

struct opened {
	struct image *image;
	struct pooled_client *client; /* NULL where the image needs none */
	struct image *rbd; /* the image itself, unwrapped, once claimed; NULL: none of RBD */
	bool locked;	   /* its exclusive lock was taken for a device */
};

/*
 * The identity of the image (see core/image.h) where it can be told without opening it, else "".
 * @ret has IMAGE_IDENTITY_MAX bytes.
 */
void opener_identity(const struct map_request *request, char *ret);

/*
 * Opens the image, which is not to be read or written yet. Blocks up to request->timeout seconds.
 * Nothing is held after a failure.
 */
int opener_open(struct client_pool *clients, const struct map_request *request, struct opened *ret,
		struct error *err) warn_unused;

/*
 * The second step: makes sure that nobody else uses the image, as request->lock says, and wraps it.
 * Others get OPENER_CLAIM_WAIT seconds to leave, or the time until @deadline (CLOCK_MONOTONIC) if
 * that is less. The image is closed meanwhile, lest those that wait keep each other out. -EBUSY:
 * somebody still uses it, and the sentence says who.
 *
 * opened->image may be another one afterwards. After a failure it may be NULL; opener_close() is
 * the caller's all the same.
 */
int opener_claim(struct opened *opened, const struct map_request *request,
		 const struct timespec *deadline, struct error *err) warn_unused;

#define OPENER_CLAIM_WAIT 10

/*
 * For a device, whose successor will ask whether anybody else had the lock in between: takes the
 * lock of a claimed image, from the request's former clients first. opened->locked says whether it
 * was had. 0; 1 when it could not be had soon; or a negative errno with a sentence, -ESTALE when
 * somebody took it that may have written. Any thread that may wait for some seconds.
 */
int opener_take_lock(struct opened *opened, const struct map_request *request,
		     struct error *err) warn_unused;

/*
 * Whether the cluster refuses the client of an image that is open for writing. Asks it, which takes
 * a moment; false where it does not answer soon, or by @deadline (CLOCK_MONOTONIC). Any thread but
 * a queue's.
 */
bool opener_is_cut_off(const struct opened *opened, const struct timespec *deadline);

/*
 * Both steps, where no table is to be asked in between. Blocks up to request->timeout seconds.
 * Nothing is held after a failure.
 */
int opener_open_claimed(struct client_pool *clients, const struct map_request *request,
			struct opened *ret, struct error *err) warn_unused;

/* Tries in a row to open an image once more; zeroed memory before the first. */
struct opener_tries {
	unsigned in_use; /* the last ones, that found others to use it */
};

/*
 * Likewise for an image that was open before, whose I/O waits and is lost if it is given up.
 * opener_is_final() tells from the errno whether the next try may have it.
 *
 * The lock of an image tells whose it is: it is lost at first sight of another owner. One without
 * has watchers alone, and those that keep it from us are judged by @tries: a watch may be that of a
 * daemon which died before its record named its client, or of an earlier try of ours that a silent
 * cluster keeps from being closed, and those go by themselves. Who stays may have written to it.
 */
int opener_reopen(struct client_pool *clients, const struct map_request *request,
		  struct opener_tries *tries, struct opened *ret, struct error *err) warn_unused;

/*
 * What no waiting mends: the image is gone, or somebody else may have written to it. All else may
 * pass, and loses I/O that waits if it is taken for final: a lock that is set by hand, a name that
 * cannot be resolved (-EINVAL to librados), a user without a key (-EOPNOTSUPP).
 */
static inline bool opener_is_final(int code)
{
	return code == -ESTALE;
}

/*
 * Waits for requests in flight, closes the image, gives the client back. Harmless on zeroed memory.
 * 0, or the negative errno with which the storage ended: what was in a cache may be lost.
 */
int opener_close(struct client_pool *clients, struct opened *opened);
