/* A volume's spec from FlexVolume options: what kubelet sends, and what it may be sent wrongly. */
#include <errno.h>
#include <string.h>

#include "plugin/base64.h"
#include "plugin/flex_options.h"
#include "plugin/naming.h"
#include "plugin/paths.h"
#include "tests/unit/cmocka-all.h"

#define KEY		"AQBAMo1VqE1OMhAAVpERPcyQU5pzU6IOJ22x1w=="
#define KEY_BASE64	"QVFCQU1vMVZxRTFPTWhBQVZwRVJQY3lRVTVwelU2SU9KMjJ4MXc9PQ=="
/* The same with the newline that `echo KEY | base64` leaves in. */
#define KEY_LINE_BASE64 "QVFCQU1vMVZxRTFPTWhBQVZwRVJQY3lRVTVwelU2SU9KMjJ4MXc9PQo="

#define LEAST "\"monitors\":\"10.0.0.1:6789\",\"image\":\"foo\""

static void parse(const char *text, struct volume_spec *spec)
{
	struct error err = ERROR_NONE;
	int r = flex_options_parse(text, spec, &err);

	if (r < 0)
		print_error("%s: %s\n", text, err.text);
	assert_int_equal(r, 0);
}

/* @part: what the sentence must hold. */
static void refuse(const char *text, const char *part)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
	struct error err = ERROR_NONE;

	assert_int_equal(flex_options_parse(text, &spec, &err), -EINVAL);
	if (!strstr(err.text, part))
		print_error("%s: \"%s\" does not hold \"%s\"\n", text, err.text, part);
	assert_non_null(strstr(err.text, part));
	assert_null(strstr(err.text, KEY));
	assert_null(strstr(err.text, KEY_BASE64));
}

static void defaults_are_those_of_the_rbd_volume(void **state)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;

	parse("{" LEAST "}", &spec);
	assert_string_equal(spec.monitors, "10.0.0.1:6789");
	assert_string_equal(spec.image, "foo");
	assert_string_equal(spec.pool, "rbd");
	assert_string_equal(spec.user, "admin");
	assert_string_equal(spec.keyring, "/etc/ceph/keyring");
	assert_null(spec.namespace);
	assert_null(spec.key);
	assert_null(spec.fs_type);
	assert_false(spec.read_only);
}

static void all_fields_are_read(void **state)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;

	parse("{" LEAST ",\"pool\":\"kube\",\"namespace\":\"n\",\"user\":\"u\",\"keyring\":\"/k\","
	      "\"fsType\":\"xfs\",\"readOnly\":\"true\",\"mountOptions\":\"noatime,discard\","
	      "\"mapOptions\":\"rbd_cache=false,rbd_op_threads=2\"}",
	      &spec);
	assert_string_equal(spec.pool, "kube");
	assert_string_equal(spec.namespace, "n");
	assert_string_equal(spec.user, "u");
	assert_string_equal(spec.keyring, "/k");
	assert_string_equal(spec.fs_type, "xfs");
	assert_string_equal(spec.mount_options, "noatime,discard");
	assert_true(spec.read_only);
	assert_string_equal(json_string_value(json_object_get(spec.map_options, "rbd_op_threads")),
			    "2");
}

static void kubelets_own_keys_are_known(void **state)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;

	parse("{" LEAST ",\"fsType\":\"xfs\",\"kubernetes.io/fsType\":\"ext4\","
	      "\"kubernetes.io/readwrite\":\"ro\",\"kubernetes.io/pvOrVolumeName\":\"data\","
	      "\"kubernetes.io/pod.name\":\"p\",\"kubernetes.io/pod.namespace\":\"default\","
	      "\"kubernetes.io/pod.uid\":\"1\",\"kubernetes.io/serviceAccount.name\":\"default\","
	      "\"kubernetes.io/mounterArgs.FsGroup\":\"1000\","
	      "\"kubernetes.io/of-a-later-kubelet\":\"x\"}",
	      &spec);
	assert_string_equal(spec.fs_type, "ext4");
	assert_true(spec.read_only);
}

static void an_empty_fs_type_is_none(void **state)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;

	parse("{" LEAST ",\"kubernetes.io/fsType\":\"\",\"kubernetes.io/readwrite\":\"rw\"}",
	      &spec);
	assert_null(spec.fs_type);
	assert_false(spec.read_only);
}

static void the_secret_is_decoded_and_trimmed(void **state)
{
	static const char *const secrets[] = {
		"\"kubernetes.io/secret/key\":\"" KEY_BASE64 "\"",
		"\"kubernetes.io/secret/key\":\"" KEY_LINE_BASE64 "\"",
		"\"kubernetes.io/secret/anything\":\"" KEY_BASE64 "\"",
		"\"kubernetes.io/secret/a\":\"eA==\",\"kubernetes.io/secret/key\":\"" KEY_BASE64
		"\"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
		cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
		char text[512];

		snprintf(text, sizeof(text), "{" LEAST ",%s}", secrets[i]);
		parse(text, &spec);
		assert_string_equal(spec.key, KEY);
	}
}

static void wrong_secrets_are_refused(void **state)
{
	refuse("{" LEAST ",\"kubernetes.io/secret/key\":\"" KEY "!\"}", "no base64");
	refuse("{" LEAST ",\"kubernetes.io/secret/key\":\"\"}", "Secret");
	refuse("{" LEAST ",\"kubernetes.io/secret/a\":\"" KEY_BASE64
	       "\",\"kubernetes.io/secret/b\":\"" KEY_BASE64 "\"}",
	       "none is called \"key\"");
	/* [client.admin]\n key = x */
	refuse("{" LEAST ",\"kubernetes.io/secret/key\":\"W2NsaWVudC5hZG1pbl0Ka2V5ID0geAo=\"}",
	       "Secret");
}

static void wrong_options_are_named(void **state)
{
	refuse("{\"image\":\"foo\"}", "monitors is missing");
	refuse("{\"monitors\":\" , \",\"image\":\"foo\"}", "monitors is missing");
	refuse("{\"monitors\":\"a\"}", "image is missing");
	refuse("{" LEAST ",\"imege\":\"x\"}", "unknown option \"imege\"");
	refuse("{" LEAST ",\"pool\":7}", "\"pool\" is no string");
	refuse("{" LEAST ",\"pool\":\"a/b\"}", "pool");
	refuse("{" LEAST ",\"image\":\"b\"}", "JSON"); /* twice */
	refuse("{" LEAST ",\"user\":\"client.x\"}", "say \"x\"");
	refuse("{" LEAST ",\"keyring\":\"k\"}", "keyring");
	refuse("{" LEAST ",\"readOnly\":\"yes\"}", "readOnly");
	refuse("{" LEAST ",\"fsType\":\"../x\"}", "fsType");
	refuse("{" LEAST ",\"fsType\":\"ext4\\n\"}", "control character");
	refuse("{" LEAST ",\"mapOptions\":\"a\"}", "mapOptions");
	refuse("{" LEAST ",\"mountOptions\":\"noatime,bind\"}", "bind");
	refuse("{" LEAST ",\"mountOptions\":\"loop=/dev/loop0\"}", "loop");
	refuse("{" LEAST ",\"mountOptions\":\"X-mount.mkdir\"}", "X-mount");
	refuse("{" LEAST ",\"kubernetes.io/readwrite\":\"maybe\"}", "readwrite");
}

static void what_is_no_object_is_refused(void **state)
{
	static const char *const wrong[] = { "",   "x", "[]", "\"a\"", "{", "{\"a\":{\"b\":{}}}",
					     "{}x" };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		refuse(wrong[i], "options");
}

static void expect_identity(const char *monitors, const char *expected)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
	cleanup_free char *identity = NULL;
	char text[256];

	snprintf(text, sizeof(text), "{\"image\":\"foo\",\"monitors\":\"%s\"}", monitors);
	parse(text, &spec);
	identity = volume_spec_identity(&spec);
	assert_string_equal(identity, expected);
}

static void the_order_of_monitors_does_not_matter(void **state)
{
	expect_identity("b:1,a:1", "rbd/foo@a:1,b:1");
	expect_identity(" a:1, b:1,,a:1", "rbd/foo@a:1,b:1");
	expect_identity("[v2:b:3300,v1:b:6789],[::1]:6789",
			"rbd/foo@[::1]:6789,[v2:b:3300,v1:b:6789]");
}

static void expect_base64(const char *text, const char *expected)
{
	cleanup_free char *bytes = NULL;
	size_t length = 77;
	int r = base64_decode(text, &bytes, &length);

	assert_int_equal(r, expected ? 0 : -EINVAL);
	if (!expected)
		return;
	assert_int_equal(length, strlen(expected));
	assert_string_equal(bytes, expected);
}

/* RFC 4648 §10 */
static void base64_is_strict(void **state)
{
	expect_base64("", "");
	expect_base64("Zg==", "f");
	expect_base64("Zm8=", "fo");
	expect_base64("Zm9v", "foo");
	expect_base64("Zm9vYg==", "foob");
	expect_base64("Zm9v\nYmE=\n", "fooba");
	expect_base64("Zg", NULL);
	expect_base64("Zg=", NULL);
	expect_base64("Z===", NULL);
	expect_base64("Zg==Zg==", NULL);
	expect_base64("Zm9-", NULL);
	expect_base64("====", NULL);
}

static void the_global_directory_follows_the_target(void **state)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
	cleanup_free char *global = NULL;
	struct error err;

	parse("{" LEAST "}", &spec);
	assert_int_equal(path_flex_global("/nowhere/k/pods/u/volumes/ceph~rbd/data/", &spec,
					  &global, &err),
			 0);
	assert_string_equal(global, "/nowhere/k/plugins/kubernetes.io/flexvolume/ceph/rbd/mounts/"
				    "rbd-image-foo-eb2d56672ee3a7aa");
	assert_int_equal(path_flex_global("/nowhere/k/pods/u/volumes/ceph/data", &spec, &global,
					  &err),
			 -EINVAL);
	assert_int_equal(path_flex_global("/data", &spec, &global, &err), -EINVAL);
}

static void expect_canonical(const char *path, const char *expected)
{
	cleanup_free char *canonical = naming_canonical(path);

	assert_string_equal(canonical, expected);
}

static void paths_are_canonical(void **state)
{
	expect_canonical("/nowhere//a/./b/../c/", "/nowhere/a/c");
	expect_canonical("/", "/");
	expect_canonical("/..", "/");
	expect_canonical("/nowhere", "/nowhere");
	expect_canonical("/proc/self/../1/root", "/proc/1/root"); /* the last one is not followed */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_rbd_volume),
		cmocka_unit_test(all_fields_are_read),
		cmocka_unit_test(kubelets_own_keys_are_known),
		cmocka_unit_test(an_empty_fs_type_is_none),
		cmocka_unit_test(the_secret_is_decoded_and_trimmed),
		cmocka_unit_test(wrong_secrets_are_refused),
		cmocka_unit_test(wrong_options_are_named),
		cmocka_unit_test(what_is_no_object_is_refused),
		cmocka_unit_test(the_order_of_monitors_does_not_matter),
		cmocka_unit_test(base64_is_strict),
		cmocka_unit_test(the_global_directory_follows_the_target),
		cmocka_unit_test(paths_are_canonical),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
