/*
 * A gate: the image that a device's frontend submits to, in front of the one that stores. It can be
 * held: requests then wait here, and the image behind it can be closed, exchanged for another open
 * one of the same storage, and the waiting requests be sent on to that.
 *
 * A request that the storage refuses because its client is cut off from the cluster (-ESHUTDOWN) is
 * no failure of the device: it comes back here and waits, and the owner is told to find another
 * client.
 *
 * What waits is touched by the home thread of its request alone. The functions below block, are for
 * any thread but a queue's, and one at a time.
 */
#pragma once

#include <time.h>

#include "core/image.h"

struct gate;

struct gate_config {
	struct queue *const *queues; /* every queue that may submit; copied */
	unsigned nr_queues;
	unsigned io_timeout; /* seconds that a request waits here until it fails with EIO; 0: for
				ever */

	/*
	 * Queue thread: requests have come back, and more will until the gate is held. May be
	 * called often; must not block. NULL: nobody finds another client, so they fail.
	 */
	void (*cut_off)(void *data);
	void *data;
};

/* Takes @inner over on success only: closing the gate closes it. 0 or a negative errno. */
int gate_create(const struct gate_config *config, struct image *inner,
		struct gate **ret) warn_unused;

/* What frontends submit to; image_close() of it closes the image behind it and frees the gate. */
struct image *gate_image(struct gate *gate);

/* From now on requests wait, in the order in which they came. Twice is as good as once. */
void gate_hold(struct gate *gate);

/*
 * Waits until the image behind a held gate has answered all that it had. False when @deadline
 * (CLOCK_MONOTONIC) passes first, or somebody makes @cancel other than 0; it may be NULL.
 */
bool gate_wait_idle(struct gate *gate, const struct timespec *deadline, const atomic_uint *cancel);

/* Of a held gate: the image behind it, which is the caller's then; NULL where there is none. */
struct image *gate_take_inner(struct gate *gate);

/* Of a held gate without an image: takes @inner over, and sends on to it what waits. */
void gate_resume(struct gate *gate, struct image *inner);

/* Answers all that waits, and all that comes, with EIO. For good. Also while another of these
 * functions runs. */
void gate_fail(struct gate *gate);

/* Requests that wait, at about this moment. */
unsigned gate_waiting(const struct gate *gate);
