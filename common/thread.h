/* Threads for work that is slow: one that nobody waits for, or one for each of several items. */
#pragma once

#include <stddef.h>

#include "common/macros.h"

/* Runs main(data) on a thread of its own. 0, or a negative errno: then nothing runs. */
int thread_detached(void *(*main)(void *data), void *data) warn_unused;

/* Runs main(item) for each of `count` items of `size` bytes, all at once, and returns when all have
 * ended. An item for which there is no thread has its turn on the caller's. */
void threads_for_each(void *(*main)(void *item), void *items, size_t size, unsigned count);
