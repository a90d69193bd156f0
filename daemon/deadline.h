/* Points in time by which an operation must be done: struct timespec of CLOCK_MONOTONIC. */
#pragma once

#include <time.h>

static inline struct timespec deadline_in(unsigned seconds)
{
	struct timespec deadline;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += seconds;
	return deadline;
}

/* Whole seconds until then, and at least one: what is late still gets a try. */
static inline unsigned deadline_left(const struct timespec *deadline)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return deadline->tv_sec > now.tv_sec ? (unsigned)(deadline->tv_sec - now.tv_sec) : 1;
}
