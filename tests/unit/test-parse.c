/* Numbers and sizes as command lines bring them. */
#include <errno.h>

#include "common/error.h"
#include "common/parse.h"
#include "tests/unit/cmocka-all.h"

static void expect_size(const char *text, uint64_t expected)
{
	uint64_t value = 0;

	assert_int_equal(parse_size(text, &value), 0);
	assert_int_equal(value, expected);
}

static void sizes_are_read(void **state)
{
	expect_size("0", 0);
	expect_size("4096", 4096);
	expect_size("1K", 1024);
	expect_size("10MiB", 10 << 20);
	expect_size("3gb", 3ull << 30);
	expect_size("8E", 8ull << 60);
}

static void wrong_sizes_are_refused(void **state)
{
	static const char *const invalid[] = { "",    "K",   "-1",   " 1",   "1X",
					       "1KK", "1 K", "0x10", "1KiBs" };
	uint64_t value = 77;

	for (size_t i = 0; i < ARRAY_SIZE(invalid); i++)
		assert_int_equal(parse_size(invalid[i], &value), -EINVAL);
	assert_int_equal(parse_size("16E", &value), -ERANGE);
	assert_int_equal(parse_size("99999999999999999999", &value), -ERANGE);
	assert_int_equal(value, 77);
}

static void numbers_keep_their_bounds(void **state)
{
	unsigned value = 77;

	assert_int_equal(parse_unsigned("0", 1, 10, &value), -ERANGE);
	assert_int_equal(parse_unsigned("11", 1, 10, &value), -ERANGE);
	assert_int_equal(parse_unsigned("5x", 1, 10, &value), -EINVAL);
	assert_int_equal(value, 77);
	assert_int_equal(parse_unsigned("10", 1, 10, &value), 0);
	assert_int_equal(value, 10);
}

static void expect_cpus(const char *text, unsigned long mask)
{
	cpu_set_t cpus;

	assert_int_equal(parse_cpus(text, &cpus), 0);
	for (unsigned i = 0; i < 8 * sizeof(mask); i++)
		assert_int_equal(!!CPU_ISSET(i, &cpus), mask >> i & 1);
}

static void lists_of_cpus_are_read(void **state)
{
	expect_cpus("0", 1);
	expect_cpus("3,1", 0xa);
	expect_cpus("0-3,8", 0x10f);
	expect_cpus("2-2,2", 4);
}

static void wrong_lists_of_cpus_are_refused(void **state)
{
	static const char *const invalid[] = { "",  ",",   "1,",  ",1",	   "1-", "-1",
					       "a", "1 2", "3-1", "1-2-3", "1;2" };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (size_t i = 0; i < ARRAY_SIZE(invalid); i++)
		assert_int_equal(parse_cpus(invalid[i], &cpus), -EINVAL);
	assert_int_equal(parse_cpus("1024", &cpus), -ERANGE);
	assert_int_equal(parse_cpus("0-99999999999999999999", &cpus), -ERANGE);
	assert_int_equal(CPU_COUNT(&cpus), 0);
}

static void errno_names_go_both_ways(void **state)
{
	assert_string_equal(errno_name(-ENOSPC), "ENOSPC");
	assert_int_equal(errno_from_name("ENOSPC"), ENOSPC);
	assert_int_equal(errno_from_name("ENONSENSE"), 0);
	assert_string_equal(errno_name(4000), "EUNKNOWN");
}

static void errors_are_prefixed(void **state)
{
	struct error err = ERROR_NONE;

	assert_int_equal(error_set(&err, -EIO, "disk %d broke", 7), -EIO);
	assert_int_equal(error_prefix(&err, "mapping %s: ", "foo"), -EIO);
	assert_string_equal(err.text, "mapping foo: disk 7 broke");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(wrong_sizes_are_refused),
		cmocka_unit_test(numbers_keep_their_bounds),
		cmocka_unit_test(lists_of_cpus_are_read),
		cmocka_unit_test(wrong_lists_of_cpus_are_refused),
		cmocka_unit_test(errno_names_go_both_ways),
		cmocka_unit_test(errors_are_prefixed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
