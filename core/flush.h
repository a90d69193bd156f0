/* A flush that is nobody's request: for whoever is about to close an image. */
#pragma once

#include <time.h>

#include "core/image.h"

/*
 * Asks @image to store what it has answered, on @queue, and waits for it. 0, or the negative errno
 * of the storage; -ETIMEDOUT when @deadline (CLOCK_MONOTONIC) passes first, or somebody makes
 * @cancel other than 0 (it may be NULL): the flush goes on then, and counts as a request in flight.
 * Any thread but a queue's.
 */
int image_flush(struct image *image, struct queue *queue, const struct timespec *deadline,
		const atomic_uint *cancel) warn_unused;
