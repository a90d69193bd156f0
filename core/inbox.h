/*
 * The inbox of a queue: work that other threads hand to its thread.
 *
 * Many producers, one consumer, no lock. The whole state is one pointer: NULL (empty, the consumer
 * runs), SLEEPING (empty, the consumer is about to sleep or sleeps), or the newest item of a chain.
 * So a producer learns from the very exchange that puts its item in whether the consumer needs to
 * be woken.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct work {
	struct work *next;
	void (*run)(
		struct work *); /* called on the consumer's thread; the item is the callee's then */
};

struct inbox {
	_Atomic(struct work *) newest;
};

#define INBOX_EMPTY ((struct inbox){ NULL })

/* Any thread. True when the caller has to wake the consumer. The item stays the inbox's until it
 * runs. */
bool inbox_push(struct inbox *inbox, struct work *work);

/* Consumer only. All items, oldest first, linked by next; NULL when there are none. Ends a sleep.
 */
struct work *inbox_take_all(struct inbox *inbox);

/* Consumer only. Says nothing on what a producer is about to do. */
bool inbox_is_empty(const struct inbox *inbox);

/* Consumer only. True: the inbox is empty, and the next push will ask for a wake. False: look
 * again. */
bool inbox_try_sleep(struct inbox *inbox);
