/* Running other programs: how they end, and what is undone when they do not end well. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/command.h"
#include "tests/unit/cmocka-all.h"

#define PATIENCE 20 /* seconds */

/* What undoing appends a line to. */
static char notes[64];
static char note[128];

static int make(void **state)
{
	int fd;

	snprintf(notes, sizeof(notes), "/tmp/test-command.XXXXXX");
	fd = mkstemp(notes);
	if (fd < 0)
		return -1;
	close(fd);
	snprintf(note, sizeof(note), "echo undone >>%s", notes);
	return 0;
}

static int drop(void **state)
{
	return unlink(notes);
}

static unsigned noted(void)
{
	FILE *file = fopen(notes, "re");
	char line[64];
	unsigned count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		count++;
	fclose(file);
	return count;
}

static int run(const char *script, unsigned seconds)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	const char *const undo[] = { "sh", "-c", note, NULL };

	return command_run_or_undo(argv, undo, seconds);
}

static void what_ends_well_is_not_undone(void **state)
{
	assert_int_equal(run("exit 0", PATIENCE), 0);
	assert_int_equal(noted(), 0);
}

static void what_fails_is_undone(void **state)
{
	assert_int_equal(run("exit 3", PATIENCE), -EIO);
	assert_int_equal(noted(), 1);
}

static void what_hangs_is_undone_twice(void **state)
{
	unsigned left = PATIENCE;

	assert_int_equal(run("sleep 600 & sleep 600", 1), -ETIMEDOUT);
	assert_true(noted() >= 1);
	while (noted() < 2 && left-- > 0)
		sleep(1);
	assert_int_equal(noted(), 2);
}

static void what_is_not_there_cannot_run(void **state)
{
	const char *const by_path[] = { "/nowhere/at/all", NULL };
	const char *const by_name[] = { "no-such-program-of-urbd", NULL };

	assert_int_equal(command_run(by_path, PATIENCE), -ENOENT);
	assert_int_equal(command_run(by_name, PATIENCE), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_ends_well_is_not_undone, make, drop),
		cmocka_unit_test_setup_teardown(what_fails_is_undone, make, drop),
		cmocka_unit_test_setup_teardown(what_hangs_is_undone_twice, make, drop),
		cmocka_unit_test(what_is_not_there_cannot_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
