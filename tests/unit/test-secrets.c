/* Keys from files and texts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/secrets.h"
#include "tests/unit/cmocka-all.h"

#define KEY "AQBQAAAAAAAAABAAkz1bsjCdXL8ZBJOzJ8kIYg=="

static char path[] = "/tmp/test-secrets-XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(path);

	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	return unlink(path);
}

static int read_back(const char *text, size_t length, char **ret, struct error *err)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	*err = ERROR_NONE;
	return secret_read_file(path, ret, err);
}

static void expect_key(const char *text)
{
	struct error err;
	char *key = NULL;

	assert_int_equal(read_back(text, strlen(text), &key, &err), 0);
	assert_string_equal(key, KEY);
	secret_free(key);
}

static void white_space_is_trimmed(void **state)
{
	expect_key(KEY);
	expect_key(KEY "\n");
	expect_key(" \t\r\n" KEY "\r\n\n ");
}

static void expect_refused(const char *text, size_t length, int code, const char *word)
{
	char *key = path;
	struct error err;

	assert_int_equal(read_back(text, length, &key, &err), code);
	assert_ptr_equal(key, path);
	if (!strstr(err.text, word))
		fail_msg("no '%s' in: %s", word, err.text);
	assert_non_null(strstr(err.text, path));
	assert_null(strstr(err.text, "SECRET"));
}

static void what_is_no_key_is_refused(void **state)
{
	static const char keyring[] = "[client.kube]\n\tkey = SECRET\n";
	char large[8192];

	memset(large, 'x', sizeof(large));
	expect_refused("", 0, -EINVAL, "empty");
	expect_refused(" \n\t", 3, -EINVAL, "empty");
	expect_refused(keyring, strlen(keyring), -EINVAL, "keyring");
	expect_refused("SECRET\nSECRET\n", 14, -EINVAL, "no key");
	expect_refused("SECRET\0SECRET", 13, -EINVAL, "no key");
	expect_refused("SECRET SECRET", 13, -EINVAL, "no key");
	expect_refused("SECRET\xff", 7, -EINVAL, "no key");
	expect_refused(large, SECRET_MAX + 1, -EFBIG, "longer");
	expect_refused(large, sizeof(large), -EFBIG, "longer");
}

static void absent_files_are_told(void **state)
{
	struct error err = ERROR_NONE;
	char *key = path;

	assert_int_equal(secret_read_file("/nonexistent/key", &key, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/key"));
	assert_int_equal(secret_read_file("/tmp", &key, &err), -EISDIR);
	assert_ptr_equal(key, path);
}

static void pipes_are_read(void **state)
{
	struct error err = ERROR_NONE;
	char name[32], *key = NULL;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], KEY "\n", strlen(KEY) + 1), (ssize_t)strlen(KEY) + 1);
	close(fds[1]);
	snprintf(name, sizeof(name), "/dev/fd/%d", fds[0]);
	assert_int_equal(secret_read_file(name, &key, &err), 0);
	assert_string_equal(key, KEY);
	close(fds[0]);
	secret_free(key);
}

static void texts_are_trimmed(void **state)
{
	struct error err = ERROR_NONE;
	char *key = NULL;

	assert_int_equal(secret_trim(KEY "\n-rest", strlen(KEY) + 1, "the key", &key, &err), 0);
	assert_string_equal(key, KEY);
	secret_free(key);
	assert_int_equal(secret_trim("", 0, "the key", &key, &err), -EINVAL);
	assert_non_null(strstr(err.text, "the key is empty"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(white_space_is_trimmed),
		cmocka_unit_test(what_is_no_key_is_refused),
		cmocka_unit_test(absent_files_are_told),
		cmocka_unit_test(pipes_are_read),
		cmocka_unit_test(texts_are_trimmed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
