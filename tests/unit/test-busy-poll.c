/* When a thread looks for work before it sleeps. */
#include "core/busy-poll.h"
#include "tests/unit/cmocka-all.h"

#define LIMIT 100
#define SHORT 150 /* a sleep within twice the limit */
#define LONG  250

/* How many such sleeps it takes, @pieces of work each, until a look pays; @most at most. */
static unsigned sleeps_before_a_look(struct busy_poll *poll, uint64_t ticks, unsigned pieces,
				     unsigned most)
{
	unsigned sleeps = 0;

	while (sleeps < most && !busy_poll_pays(poll, pieces, LIMIT)) {
		busy_poll_slept(poll, ticks);
		sleeps++;
	}
	return sleeps;
}

static void look(struct busy_poll *poll, bool found)
{
	busy_poll_looked(poll, found);
	if (!found)
		busy_poll_slept(poll, LIMIT + SHORT);
}

/* Some series of looks, of which @finds bring @pieces of work each, and the last is in vain.
 * Returns how many sleeps there were before the last series. */
static unsigned sleeps_between_series(struct busy_poll *poll, int finds, unsigned pieces)
{
	unsigned sleeps = 0;

	for (int series = 0; series < 12; series++) {
		sleeps = sleeps_before_a_look(poll, SHORT, 1, 100000);
		for (int looks = 0; looks < finds; looks++) {
			look(poll, true);
			busy_poll_pays(poll, pieces, LIMIT);
		}
		look(poll, false);
	}
	return sleeps;
}

static void one_at_a_time_pays(void **state)
{
	struct busy_poll poll = { 0 };

	assert_in_range(sleeps_before_a_look(&poll, SHORT, 1, 1000), 2, 50);
	for (int looks = 0; looks < 50; looks++) {
		look(&poll, true);
		assert_true(busy_poll_pays(&poll, 1, LIMIT));
	}
}

static void what_takes_long_or_comes_together_does_not(void **state)
{
	struct busy_poll poll = { 0 };

	assert_int_equal(sleeps_before_a_look(&poll, LONG, 1, 1000), 1000);
	assert_int_equal(sleeps_before_a_look(&poll, SHORT, 2, 1000), 1000);
	sleeps_before_a_look(&poll, SHORT, 1, 1000);
	look(&poll, true);
	assert_false(busy_poll_pays(&poll, 2, LIMIT));
}

/* A wake that comes late, say. */
static void what_brings_no_work_does_not(void **state)
{
	struct busy_poll poll = { 0 };

	assert_int_equal(sleeps_before_a_look(&poll, SHORT, 0, 1000), 1000);
	assert_in_range(sleeps_between_series(&poll, 20, 0), 1000, 5000);
}

static void without_a_limit_it_never_does(void **state)
{
	struct busy_poll poll = { 0 };

	for (int sleeps = 0; sleeps < 1000; sleeps++) {
		assert_false(busy_poll_pays(&poll, 1, 0));
		busy_poll_slept(&poll, 1);
	}
}

/* Only a sleep shows whether more would come together. */
static void it_sleeps_now_and_then(void **state)
{
	struct busy_poll poll = { 0 };
	int looks = 0;

	sleeps_before_a_look(&poll, SHORT, 1, 1000);
	do {
		look(&poll, true);
	} while (++looks < 1000 && busy_poll_pays(&poll, 1, LIMIT));
	assert_in_range(looks, 50, 999);
	busy_poll_slept(&poll, SHORT);
	assert_true(busy_poll_pays(&poll, 1, LIMIT));
}

static void in_vain_it_becomes_rare_and_comes_back(void **state)
{
	struct busy_poll poll = { 0 };

	assert_in_range(sleeps_between_series(&poll, 1, 1), 1000, 5000);
	assert_in_range(sleeps_between_series(&poll, 20, 1), 2, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_at_a_time_pays),
		cmocka_unit_test(what_takes_long_or_comes_together_does_not),
		cmocka_unit_test(what_brings_no_work_does_not),
		cmocka_unit_test(without_a_limit_it_never_does),
		cmocka_unit_test(it_sleeps_now_and_then),
		cmocka_unit_test(in_vain_it_becomes_rare_and_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
