/*
 * The hook that is run around each snapshot of an image: HOOK TARGET quiesce, then HOOK TARGET
 * unquiesce, where TARGET is a device's path or an export's URI. It runs as a child with a
 * deadline, and in the daemon's mount namespace; see daemon/quiesce, the default one.
 */
#pragma once

#include <time.h>

#include "core/image.h"

/*
 * From now on, until @image is closed. Nothing happens where @hook is NULL. 0, or a negative errno
 * with a sentence. Any thread but a queue's.
 */
int quiesce_watch(struct image *image, const char *hook, const char *target,
		  struct error *err) warn_unused;

/*
 * Before the I/O of @image is held, which would hold up a hook that freezes: no snapshot begins any
 * more, what has begun gets a moment to end, and is undone then. 0; or -ETIMEDOUT with a sentence,
 * in which it is @target, when that has not ended until @deadline (CLOCK_MONOTONIC), or somebody
 * made @cancel other than 0. Any thread but a queue's.
 */
int quiesce_end(struct image *image, const char *target, const struct timespec *deadline,
		const atomic_uint *cancel, struct error *err) warn_unused;

/* It goes on as it was before quiesce_end(). */
void quiesce_go_on(struct image *image);

/*
 * What a daemon that died may have left quiesced goes on: runs HOOK TARGET unquiesce, where @hook
 * is not NULL. Blocks until it has ended, but not for ever.
 */
void quiesce_release(const char *hook, const char *target);
