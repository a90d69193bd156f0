/* A point in time by which work must be done. Monotonic; a value, free to copy. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct deadline {
	int64_t at_ms; /* CLOCK_MONOTONIC, milliseconds */
};

static inline int64_t deadline_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline struct deadline deadline_after_ms(int64_t ms)
{
	return (struct deadline){ deadline_now_ms() + ms };
}

/* Milliseconds that are left, never negative, and fit for poll(2). */
static inline int deadline_left_ms(struct deadline deadline)
{
	int64_t left = deadline.at_ms - deadline_now_ms();

	if (left < 0)
		return 0;
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

static inline bool deadline_passed(struct deadline deadline)
{
	return deadline_left_ms(deadline) == 0;
}
