/* The inbox loses nothing, keeps each producer's order, and asks for a wake exactly when one is
 * due. */
#include <pthread.h>
#include <stdlib.h>

#include "core/inbox.h"
#include "common/macros.h"
#include "tests/unit/cmocka-all.h"

#define PRODUCERS 4
#define ITEMS	  50000

struct item {
	struct work work;
	unsigned producer, number;
};

static struct inbox inbox;
static struct item items[PRODUCERS][ITEMS];
static atomic_uint wakes;

static void *produce(void *data)
{
	struct item *mine = data;

	for (unsigned i = 0; i < ITEMS; i++)
		if (inbox_push(&inbox, &mine[i].work))
			atomic_fetch_add(&wakes, 1);
	return NULL;
}

static unsigned take_and_check(unsigned next[PRODUCERS])
{
	unsigned count = 0;

	for (struct work *work = inbox_take_all(&inbox); work; work = work->next, count++) {
		struct item *item = container_of(work, struct item, work);

		assert_int_equal(item->number, next[item->producer]++);
	}
	return count;
}

/* Sleeps as a queue does; every sleep but the last must be ended by exactly one wake. */
static void nothing_is_lost_under_load(void **state)
{
	pthread_t threads[PRODUCERS];
	unsigned next[PRODUCERS] = { 0 }, seen = 0, sleeps = 0;

	for (unsigned p = 0; p < PRODUCERS; p++)
		for (unsigned i = 0; i < ITEMS; i++)
			items[p][i] = (struct item){ .producer = p, .number = i };
	for (unsigned p = 0; p < PRODUCERS; p++)
		assert_int_equal(pthread_create(&threads[p], NULL, produce, items[p]), 0);
	while (seen < PRODUCERS * ITEMS) {
		if (inbox_try_sleep(&inbox)) {
			sleeps++;
			while (atomic_load(&wakes) < sleeps)
				;
		}
		seen += take_and_check(next);
	}
	for (unsigned p = 0; p < PRODUCERS; p++)
		pthread_join(threads[p], NULL);
	assert_int_equal(seen, PRODUCERS * ITEMS);
	assert_int_equal(atomic_load(&wakes), sleeps);
}

static void a_full_inbox_refuses_sleep(void **state)
{
	struct work work = { 0 };

	assert_false(inbox_push(&inbox, &work));
	assert_false(inbox_try_sleep(&inbox));
	assert_ptr_equal(inbox_take_all(&inbox), &work);
	assert_true(inbox_try_sleep(&inbox));
	assert_null(inbox_take_all(&inbox));
	assert_null(inbox_take_all(&inbox));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_inbox_refuses_sleep),
		cmocka_unit_test(nothing_is_lost_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
