/*
 * Fencing: keeps what a dead client sent from reaching the storage after a newer write.
 *
 * A client is named by its address as rbd_client_address() gave it while it lived.
 */
#pragma once

#include <rbd/librbd.h>
#include <stdbool.h>
#include <stddef.h>

#include "image/client.h"

/*
 * Has the cluster refuse the client at @address from now on, and waits until this client knows the
 * OSD map that says so: nothing of the other can be stored after that. 0; -EPERM when this client's
 * caps do not allow it; another negative errno with a sentence, -ETIMEDOUT after @timeout seconds.
 * Any thread but a queue's or librados' own.
 */
int fence_client(struct rbd_client *client, const char *address, unsigned timeout,
		 struct error *err) warn_unused;

/* Below: blocking calls on an open image, for a thread that may wait. */

/* Takes the exclusive lock from the client at @address, if it has it. */
void fence_break_lock(rbd_image_t image, const char *address);

/*
 * Whether a client other than the one at @address ("": any) has the exclusive lock; @owner, of
 * @size bytes, is its address then.
 */
bool fence_has_other_owner(rbd_image_t image, const char *address, char *owner, size_t size);

/* Waits until the cluster has given up the watch of the client at @address. 0 or a negative errno.
 */
int fence_await_unwatched(rbd_image_t image, const char *address) warn_unused;
