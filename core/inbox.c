#include "core/inbox.h"

#include <stddef.h>

static struct work sleeping_mark;
#define SLEEPING (&sleeping_mark)

bool inbox_push(struct inbox *inbox, struct work *work)
{
	struct work *newest = atomic_load_explicit(&inbox->newest, memory_order_relaxed);

	do {
		work->next = newest == SLEEPING ? NULL : newest;
	} while (!atomic_compare_exchange_weak_explicit(
		&inbox->newest, &newest, work, memory_order_acq_rel, memory_order_relaxed));
	return newest == SLEEPING;
}

static struct work *reverse(struct work *newest)
{
	struct work *oldest = NULL;

	while (newest) {
		struct work *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

struct work *inbox_take_all(struct inbox *inbox)
{
	struct work *newest = atomic_exchange_explicit(&inbox->newest, NULL, memory_order_acq_rel);

	return newest == SLEEPING ? NULL : reverse(newest);
}

bool inbox_is_empty(const struct inbox *inbox)
{
	return atomic_load_explicit(&inbox->newest, memory_order_relaxed) == NULL;
}

bool inbox_try_sleep(struct inbox *inbox)
{
	struct work *expected = NULL;

	return atomic_compare_exchange_strong_explicit(&inbox->newest, &expected, SLEEPING,
						       memory_order_acq_rel, memory_order_acquire);
}
