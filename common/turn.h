/*
 * Turns: whoever needs one of some name waits until nobody else of this process has one of it. One
 * of more than five minutes keeps nobody away: what never ends is not to keep its name for good.
 *
 * Any thread that may block.
 */
#pragma once

#include <time.h>

#include "common/macros.h"

struct turn;

/*
 * Waits until @deadline (CLOCK_MONOTONIC) at most. 0: *ret is the caller's, until turn_end().
 * -ETIMEDOUT: somebody else has it still. -ENOMEM.
 */
int turn_take(const char *name, const struct timespec *deadline, struct turn **ret) warn_unused;

/* Whichever thread; NULL is allowed. */
void turn_end(struct turn *turn);
