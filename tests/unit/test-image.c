/*
 * What images refuse before any I/O, and with which words; the grammar of faults; extents; calls
 * with a deadline. I/O itself is tested by tests/conformance. No cluster is needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bounded.h"
#include "common/cleanup.h"
#include "image/client.h"
#include "image/extents.h"
#include "image/fault.h"
#include "image/file.h"
#include "image/null.h"
#include "tests/unit/cmocka-all.h"

#define GOOD_KEY "AQBmCxVpAAAAABAAC2kqKqMHbFPhZxj3lUvA3S5N9SBnGQ=="

static char directory[] = "/tmp/urbd-test-image.XXXXXX";
static char path[64];

static int make_directory(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/file", directory);
	return 0;
}

static int remove_directory(void **state)
{
	unlink(path);
	return rmdir(directory);
}

static void make_file(off_t size)
{
	cleanup_close int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
}

static void expect_words(const struct error *err, const char *words)
{
	if (!strstr(err->text, words))
		fail_msg("'%s' does not say '%s'", err->text, words);
}

static void expect_no_file(const char *name, bool read_only, int code, const char *words)
{
	struct image *image = NULL;
	struct error err = ERROR_NONE;

	assert_int_equal(file_image_open(name, read_only, &image, &err), code);
	assert_null(image);
	expect_words(&err, words);
}

static struct image *open_file(bool read_only)
{
	struct image *image = NULL;
	struct error err = ERROR_NONE;

	if (file_image_open(path, read_only, &image, &err) < 0)
		fail_msg("%s", err.text);
	return image;
}

static void null_needs_a_size_in_blocks(void **state)
{
	struct image *image = NULL;
	struct error err = ERROR_NONE;

	assert_int_equal(null_image_open(0, false, &image, &err), -EINVAL);
	assert_int_equal(null_image_open(513, false, &image, &err), -EINVAL);
	expect_words(&err, "multiple of 512");
	assert_int_equal(null_image_open(1024, true, &image, &err), 0);
	assert_true(image->info.read_only);
	assert_string_equal(image->identity, "");
	assert_int_equal(image_close(image), 0);
}

static void files_that_cannot_be_images_are_refused(void **state)
{
	expect_no_file("/nonexistent/x", false, -ENOENT, "There is no file");
	expect_no_file("/tmp", true, -EINVAL, "neither a file nor a block device");
	expect_no_file("/dev/null", true, -EINVAL, "neither a file nor a block device");
	make_file(1000);
	expect_no_file(path, false, -EINVAL, "multiple of 512");
	make_file(0);
	expect_no_file(path, false, -EINVAL, "not 0");
}

static void a_file_has_one_writer_or_readers(void **state)
{
	struct image *first, *second;

	make_file(4096);
	first = open_file(false);
	expect_no_file(path, false, -EBUSY, "locked");
	expect_no_file(path, true, -EBUSY, "for writing");
	image_close(first);
	first = open_file(true);
	second = open_file(true);
	expect_no_file(path, false, -EBUSY, "locked");
	image_close(second);
	image_close(first);
	image_close(open_file(false));
}

static void a_file_is_known_by_its_inode(void **state)
{
	char link_path[80], identity[IMAGE_IDENTITY_MAX];
	struct error err = ERROR_NONE;
	struct image *image;
	struct stat st;

	make_file(4096);
	assert_int_equal(stat(path, &st), 0);
	image = open_file(true);
	strcpy(identity, image->identity);
	assert_int_equal(strncmp(identity, "file:", 5), 0);
	assert_int_equal(strtoull(strrchr(identity, ':') + 1, NULL, 10), st.st_ino);
	image_close(image);
	snprintf(link_path, sizeof(link_path), "%s.link", path);
	assert_int_equal(symlink(path, link_path), 0);
	assert_int_equal(file_image_open(link_path, true, &image, &err), 0);
	unlink(link_path);
	assert_string_equal(image->identity, identity);
	image_close(image);
}

static void expect_rules(const char *rules, int code)
{
	struct image *inner, *image;
	struct error err = ERROR_NONE;
	int r;

	assert_int_equal(null_image_open(1 << 20, false, &inner, &err), 0);
	r = fault_image_wrap(inner, rules, &image, &err);
	if (r != code)
		fail_msg("'%s' gives %d, not %d: %s", rules, r, code, err.text);
	if (r < 0)
		expect_words(&err, "fault rule");
	image_close(r < 0 ? inner : image);
}

static void fault_rules_are_read(void **state)
{
	static const char *const right[] = {
		"write=ENOSPC",
		"read@0+4096=EIO",
		"read@1M+4K=EIO*3",
		"flush=delay:200",
		"any=delay:5:ETIMEDOUT*1",
		"write=torn:4096:EIO;discard=EPERM;write-zeroes=EIO;extents=EIO",
		"write=torn:0:EIO",
		"close=delay:200",
	};
	static const char *const wrong[] = {
		"",
		"write",
		"=EIO",
		"write=",
		"write=EFOO",
		"fly=EIO",
		"read@0=EIO",
		"read@+5=EIO",
		"read@0+0=EIO",
		"write=delay:",
		"write=delay:x",
		"write=delay:5:",
		"write=torn:4096",
		"write=torn:EIO",
		"write=torn:1:EIO",
		"write=EIO*",
		"write=EIO*0",
		"write=EIO*x",
		"write=EIO;",
		"write=5",
		"close=EIO",
		"close@0+4096=delay:5",
	};

	for (size_t i = 0; i < ARRAY_SIZE(right); i++)
		expect_rules(right[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		expect_rules(wrong[i], -EINVAL);
	expect_rules("read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;"
		     "read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;read=EIO;"
		     "read=EIO",
		     -EINVAL);
}

static void runs_of_one_kind_are_joined(void **state)
{
	struct extent list[2];
	struct extents extents = { .max = 2, .list = list };

	assert_true(extents_add(&extents, 0, true));
	assert_int_equal(extents.count, 0);
	assert_true(extents_add(&extents, 512, true));
	assert_true(extents_add(&extents, 512, true));
	assert_true(extents_add(&extents, 4096, false));
	assert_false(extents_add(&extents, 512, true));
	assert_true(extents_add(&extents, 512, false));
	assert_int_equal(extents.count, 2);
	assert_int_equal(list[0].length, 1024);
	assert_true(list[0].data);
	assert_int_equal(list[1].length, 4608);
}

static void expect_no_client(const struct rbd_client_config *config, const char *words)
{
	struct rbd_client *client = NULL;
	struct error err = ERROR_NONE;

	assert_true(rbd_client_connect(config, &client, &err) < 0);
	assert_null(client);
	expect_words(&err, words);
	if (config->key)
		assert_null(strstr(err.text, config->key));
}

static void wrong_client_settings_are_explained(void **state)
{
	const struct rbd_client_option unknown = { "rbd_nonsense", "1" };
	const struct rbd_client_option invalid = { "rbd_cache_size", "much" };
	const struct rbd_client_option secret = { "Keyring", "/etc/shadow" };
	const struct rbd_client_option output = { "log_file", "/tmp/x" };

	expect_no_client(&(struct rbd_client_config){ .conf = "" }, "No monitors");
	expect_no_client(&(struct rbd_client_config){ .conf = "/nonexistent" },
			 "configuration file /nonexistent");
	expect_no_client(
		&(struct rbd_client_config){ .monitors = "a", .conf = "", .key = "secret" },
		"The key is malformed");
	expect_no_client(
		&(struct rbd_client_config){ .monitors = "a", .conf = "", .key = GOOD_KEY "=" },
		"The key is malformed");
	expect_no_client(&(struct rbd_client_config){ .monitors = "a",
						      .conf = "",
						      .keyring = "/nonexistent" },
			 "keyring /nonexistent");
	expect_no_client(
		&(struct rbd_client_config){
			.monitors = "a", .conf = "", .options = &unknown, .nr_options = 1 },
		"rbd_nonsense");
	expect_no_client(
		&(struct rbd_client_config){
			.monitors = "a", .conf = "", .options = &invalid, .nr_options = 1 },
		"does not take the value that was given");
	expect_no_client(
		&(struct rbd_client_config){
			.monitors = "a", .conf = "", .options = &secret, .nr_options = 1 },
		"--keyring");
	expect_no_client(
		&(struct rbd_client_config){
			.monitors = "a", .conf = "", .options = &output, .nr_options = 1 },
		"not for users");
}

static int check_option(const char *key, const char *value)
{
	const struct rbd_client_option option = { key, value };
	struct error err = ERROR_NONE;

	return rbd_client_check_options(&option, 1, &err);
}

static void options_are_checked(void **state)
{
	static const char *const not_for_users[] = {
		"key",	    "key file",	    "keyfile",		 "log_file",	 "log-file",
		"log file", "admin socket", "admin_socket_mode", "err_to_stderr"
	};

	assert_int_equal(check_option("rbd_cache", "true"), 0);
	assert_int_equal(check_option("rbd cache size", "1048576"), 0);
	assert_int_equal(check_option("ms_mode_nonsense", "1"), -EINVAL);
	assert_int_equal(check_option("rbd_cache_size", "-x"), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(not_for_users); i++)
		assert_int_equal(check_option(not_for_users[i], "/tmp/x"), -EINVAL);
}

static void unreachable_monitors_are_given_up(void **state)
{
	const struct rbd_client_config config = {
		.monitors = "127.0.0.1:1", .conf = "", .key = GOOD_KEY, .timeout = 1
	};

	expect_no_client(&config, "No monitor of 127.0.0.1:1 let client.admin in within 1 seconds");
}

struct slow_job {
	struct bounded bounded;
	sem_t go, freed;
};

static void run_slow(struct bounded *bounded)
{
	sem_wait(&container_of(bounded, struct slow_job, bounded)->go);
}

static void free_slow(struct bounded *bounded)
{
	sem_post(&container_of(bounded, struct slow_job, bounded)->freed);
}

static void late_calls_clean_up_themselves(void **state)
{
	struct slow_job job = { .bounded = { .run = run_slow, .abandoned = free_slow } };

	sem_init(&job.go, 0, 1);
	sem_init(&job.freed, 0, 0);
	assert_int_equal(bounded_run(&job.bounded, 5), 0);
	assert_int_equal(sem_trywait(&job.freed), -1);
	assert_int_equal(bounded_run(&job.bounded, 1), -ETIMEDOUT);
	sem_post(&job.go);
	assert_int_equal(sem_wait(&job.freed), 0);
	sem_destroy(&job.go);
	sem_destroy(&job.freed);
}

static void init_slow(struct slow_job *job, const char *name)
{
	*job = (struct slow_job){ .bounded = {
					  .run = run_slow, .abandoned = free_slow, .name = name } };
	sem_init(&job->go, 0, 0);
	sem_init(&job->freed, 0, 0);
}

static void destroy_slow(struct slow_job *job)
{
	sem_destroy(&job->go);
	sem_destroy(&job->freed);
}

static void late_calls_are_not_made_twice(void **state)
{
	struct slow_job late, second, other;

	init_slow(&late, "one");
	init_slow(&second, "one");
	init_slow(&other, "other");
	sem_post(&second.go);
	sem_post(&other.go);
	assert_int_equal(bounded_run(&late.bounded, 1), -ETIMEDOUT);
	assert_int_equal(bounded_run(&second.bounded, 1), -EALREADY);
	assert_int_equal(sem_trywait(&second.freed), 0);
	assert_int_equal(sem_trywait(&second.go), 0); /* it never ran */
	assert_int_equal(bounded_run(&other.bounded, 60), 0);
	sem_post(&late.go);
	sem_post(&second.go);
	assert_int_equal(bounded_run(&second.bounded, 60), 0);
	assert_int_equal(sem_wait(&late.freed), 0);
	destroy_slow(&late);
	destroy_slow(&second);
	destroy_slow(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null_needs_a_size_in_blocks),
		cmocka_unit_test(files_that_cannot_be_images_are_refused),
		cmocka_unit_test(a_file_has_one_writer_or_readers),
		cmocka_unit_test(a_file_is_known_by_its_inode),
		cmocka_unit_test(fault_rules_are_read),
		cmocka_unit_test(runs_of_one_kind_are_joined),
		cmocka_unit_test(wrong_client_settings_are_explained),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(unreachable_monitors_are_given_up),
		cmocka_unit_test(late_calls_clean_up_themselves),
		cmocka_unit_test(late_calls_are_not_made_twice),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
