/* Specs as users write them, and back. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/spec.h"
#include "tests/unit/cmocka-all.h"

/* The members of @text's spec as "name=value ..." in the order they are set. */
static void expect(const char *text, const char *expected)
{
	struct error err = ERROR_NONE;
	json_t *spec = NULL, *value;
	char members[512] = "";
	const char *name;

	if (spec_parse(text, &spec, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	json_object_foreach(spec, name, value) {
		size_t at = strlen(members);

		if (json_is_integer(value))
			snprintf(members + at, sizeof(members) - at, "%s=%lld ", name,
				 json_integer_value(value));
		else
			snprintf(members + at, sizeof(members) - at, "%s=%s ", name,
				 json_string_value(value));
	}
	assert_string_equal(members, expected);
	json_decref(spec);
}

static void rbd_specs_are_parsed(void **state)
{
	expect("foo", "type=rbd image=foo ");
	expect("foo@s", "type=rbd image=foo snapshot=s ");
	expect("p/foo", "type=rbd pool=p image=foo ");
	expect("p/foo@s", "type=rbd pool=p image=foo snapshot=s ");
	expect("p/n/foo", "type=rbd pool=p namespace=n image=foo ");
	expect("p/n/foo@s", "type=rbd pool=p namespace=n image=foo snapshot=s ");
	expect("rbd/file:x", "type=rbd pool=rbd image=file:x ");
	expect("files", "type=rbd image=files ");
	expect("a b", "type=rbd image=a b ");
}

static void wrong_specs_are_refused(void **state)
{
	static const char *const wrong[] = {
		"",	    "/",
		"p/",	    "/foo",
		"p//foo",   "p/n/",
		"//foo",    "p/n/foo/x",
		"@",	    "foo@",
		"@s",	    "p/@s",
		"foo@s@t",  "foo@s/t",
		"p@x/foo",  "p/n@x/foo",
		"file:",    "null:",
		"null:x",   "null:0",
		"null:511", "null:-1",
		"null:1 G", "null:16E",
		"f\xff",    "null:9223372036854775808",
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct error err = ERROR_NONE;
		json_t *spec = (json_t *)&err;

		if (spec_parse(wrong[i], &spec, &err) != -EINVAL)
			fail_msg("'%s' was accepted", wrong[i]);
		assert_ptr_equal(spec, &err);
		assert_true(err.text[0] != '\0');
	}
}

static void null_specs_have_a_size(void **state)
{
	expect("null:512", "type=null size=512 ");
	expect("null:1G", "type=null size=1073741824 ");
	expect("null:2MiB", "type=null size=2097152 ");
}

static void file_paths_become_absolute(void **state)
{
	char directory[] = "/tmp/test-spec-XXXXXX", expected[PATH_MAX];

	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(mkdir("sub", 0700), 0);
	assert_int_equal(symlink("sub", "link"), 0);
	expect("file:/no/such/../file", "type=file path=/no/such/../file ");
	expect("file:/x", "type=file path=/x ");
	expect("file:/", "type=file path=/ ");
	snprintf(expected, sizeof(expected), "type=file path=%s/disk ", directory);
	expect("file:disk", expected);
	expect("file:./disk", expected);
	expect("file:sub/../disk", expected);
	snprintf(expected, sizeof(expected), "type=file path=%s/sub/disk ", directory);
	expect("file:link/disk", expected);
	expect("file:sub//disk", expected);
	snprintf(expected, sizeof(expected), "type=file path=%s/no/such/disk ", directory);
	expect("file:no/such/disk", expected);
	assert_int_equal(symlink("sub", "other"), 0);
	snprintf(expected, sizeof(expected), "type=file path=%s/sub ", directory);
	expect("file:other", expected);
	assert_int_equal(unlink("other"), 0);
	assert_int_equal(unlink("link"), 0);
	assert_int_equal(rmdir("sub"), 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(directory), 0);
}

static void expect_format(const char *json, const char *expected)
{
	json_t *object = json_loads(json, 0, NULL);
	char *text;

	assert_non_null(object);
	text = spec_format(object);
	assert_string_equal(text, expected);
	free(text);
	json_decref(object);
}

static void specs_are_formatted(void **state)
{
	expect_format("{\"image\":\"foo\"}", "rbd/foo");
	expect_format("{\"type\":\"rbd\",\"pool\":\"p\",\"namespace\":\"n\",\"image\":\"foo\","
		      "\"snapshot\":\"s\"}",
		      "p/n/foo@s");
	expect_format("{\"type\":\"rbd\",\"pool\":\"\",\"namespace\":\"\",\"image\":\"foo\","
		      "\"snapshot\":\"\"}",
		      "rbd/foo");
	expect_format("{\"type\":\"file\",\"path\":\"/a\"}", "file:/a");
	expect_format("{\"type\":\"file\",\"image\":\"/a\"}", "file:/a");
	expect_format("{\"type\":\"null\",\"size\":4096}", "null:4096");
	expect_format("{\"type\":\"null\",\"image\":\"4096\"}", "null:4096");
	expect_format("{\"type\":\"null\",\"image\":\"\"}", "null");
}

static void what_is_formatted_is_parsed(void **state)
{
	static const char *const specs[] = { "p/foo", "p/n/foo@s", "file:/a/b", "null:1048576" };

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct error err = ERROR_NONE;
		json_t *spec;
		char *text;

		assert_int_equal(spec_parse(specs[i], &spec, &err), 0);
		text = spec_format(spec);
		assert_string_equal(text, specs[i]);
		free(text);
		json_decref(spec);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rbd_specs_are_parsed),
		cmocka_unit_test(wrong_specs_are_refused),
		cmocka_unit_test(null_specs_have_a_size),
		cmocka_unit_test(file_paths_become_absolute),
		cmocka_unit_test(specs_are_formatted),
		cmocka_unit_test(what_is_formatted_is_parsed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
