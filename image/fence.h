/*
 * Fencing: keeps what a dead client sent from reaching the storage after a newer write.
 *
 * Clients are named by their addresses as rbd_client_address() gave them while they lived; several
 * are separated by one blank.
 */
#pragma once

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "image/client.h"

/*
 * Has the cluster refuse the clients at @addresses from now on, and waits until this client knows
 * the OSD map that says so: nothing of theirs can be stored after that. 0; -EPERM when this
 * client's caps do not allow it; another negative errno with a sentence, -ETIMEDOUT after @timeout
 * seconds; until the cluster has answered then, another one for the image of that @identity waits
 * for that within its own time. Any thread but a queue's or librados' own.
 */
int fence_client(struct rbd_client *client, const char *addresses, const char *identity,
		 unsigned timeout, struct error *err) warn_unused;

/* Below: blocking calls on an open image, for a thread that may wait. */

/* Takes the exclusive lock from the clients at @addresses, if one has it. They are kept away
 * already. @ioctx is that of the image's pool and namespace. */
void fence_break_lock(rados_ioctx_t ioctx, rbd_image_t image, const char *addresses);

enum fence_owner { FENCE_NOBODY, FENCE_FORMER, FENCE_OTHER, FENCE_BY_HAND };

/*
 * Who has the exclusive lock: nobody, one of the clients at @addresses, or another, whose address
 * @owner, of @size bytes, is then; or whether it is locked by hand ('rbd lock add'), which keeps
 * clients out that would take it. Or a negative errno.
 */
int fence_owner(rbd_image_t image, const char *addresses, char *owner, size_t size) warn_unused;

/*
 * Waits until the cluster has given up the watches of the clients at @addresses. 0; 1 when it has
 * not by @deadline (CLOCK_MONOTONIC); or a negative errno.
 */
int fence_await_unwatched(rbd_image_t image, const char *addresses,
			  const struct timespec *deadline) warn_unused;
