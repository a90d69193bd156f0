/*
 * Points in time by which an operation must be done: struct timespec of CLOCK_MONOTONIC, which
 * nobody sets. Values, free to copy; any thread, no errors.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct timespec monotonic_now(void);

struct timespec deadline_in(unsigned seconds);
struct timespec deadline_in_ms(int64_t ms);

bool deadline_passed(const struct timespec *deadline);

/* Whole seconds until then, and at least one: what is late still gets a try. */
unsigned deadline_left(const struct timespec *deadline);

/* Milliseconds until then, rounded up, never negative, and fit for poll(2). */
int deadline_left_ms(const struct timespec *deadline);

/* A condition whose pthread_cond_timedwait() takes a deadline. pthread_cond_destroy() ends it. */
void deadline_condition(pthread_cond_t *condition);

/* Sleeps so long; a signal may end it early. */
void pause_ms(unsigned ms);
