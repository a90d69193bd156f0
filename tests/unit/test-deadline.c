/* Deadlines: what is left of them, in which unit, and how long a wait for one takes. */
#include "common/deadline.h"

#include <errno.h>
#include <limits.h>

#include "tests/unit/cmocka-all.h"

static void what_is_to_come_is_left(void **state)
{
	struct timespec deadline = deadline_in(1000), same = deadline_in_ms(1000 * 1000);

	(void)state;
	assert_false(deadline_passed(&deadline));
	assert_in_range(deadline_left(&deadline), 900, 1000);
	assert_in_range(deadline_left_ms(&deadline), 900 * 1000, 1000 * 1000);
	assert_in_range(deadline_left(&same), 900, 1001);
}

static void what_has_passed_still_gets_a_try(void **state)
{
	struct timespec now = monotonic_now(), past = deadline_in_ms(-1700);

	(void)state;
	assert_true(deadline_passed(&now));
	assert_true(deadline_passed(&past));
	assert_in_range(past.tv_nsec, 0, 999999999);
	assert_int_equal(deadline_left(&past), 1);
	assert_int_equal(deadline_left_ms(&past), 0);
}

static void milliseconds_carry(void **state)
{
	(void)state;
	for (int ms = 0; ms < 3000; ms += 99)
		assert_in_range(deadline_in_ms(ms).tv_nsec, 0, 999999999);
}

static void what_is_far_fits_poll(void **state)
{
	struct timespec deadline = deadline_in(UINT_MAX);

	(void)state;
	assert_int_equal(deadline_left_ms(&deadline), INT_MAX);
}

static void a_condition_ends_at_the_deadline(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct timespec deadline = deadline_in_ms(20);
	pthread_cond_t condition;
	int r;

	(void)state;
	deadline_condition(&condition);
	pthread_mutex_lock(&lock);
	while ((r = pthread_cond_timedwait(&condition, &lock, &deadline)) == 0)
		;
	pthread_mutex_unlock(&lock);
	assert_int_equal(r, ETIMEDOUT);
	assert_true(deadline_passed(&deadline));
	pthread_cond_destroy(&condition);
}

static void a_pause_takes_its_time(void **state)
{
	struct timespec end = deadline_in_ms(1100);

	(void)state;
	pause_ms(1100);
	assert_true(deadline_passed(&end));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_to_come_is_left),
		cmocka_unit_test(what_has_passed_still_gets_a_try),
		cmocka_unit_test(milliseconds_carry),
		cmocka_unit_test(what_is_far_fits_poll),
		cmocka_unit_test(a_condition_ends_at_the_deadline),
		cmocka_unit_test(a_pause_takes_its_time),
	};

	return cmocka_run_group_tests_name("deadline", tests, NULL, NULL);
}
