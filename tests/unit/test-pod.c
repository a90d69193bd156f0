/* Pods and Secrets as files, in JSON and YAML. */
#include <errno.h>
#include <string.h>

#include "control/client.h"
#include "plugin/document.h"
#include "plugin/pod.h"
#include "tests/unit/cmocka-all.h"

#define KEY	   "AQBAMo1VqE1OMhAAVpERPcyQU5pzU6IOJ22x1w=="
#define KEY_BASE64 "QVFCQU1vMVZxRTFPTWhBQVZwRVJQY3lRVTVwelU2SU9KMjJ4MXc9PQo="

#define POD(rbd_)                                                                            \
	"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"p\"},\"spec\":{"   \
	"\"containers\":[{\"name\":\"c\"}],\"volumes\":[{\"name\":\"tmp\",\"emptyDir\":{}}," \
	"{\"name\":\"data\",\"rbd\":" rbd_ "}]}}"

/* As the pods of 2015 were written. */
static const char pod_2015[] =
	"{ \"apiVersion\": \"v1beta3\", \"id\": \"old\", \"kind\": \"Pod\","
	"  \"metadata\": { \"name\": \"old\" },"
	"  \"spec\": { \"containers\": [ { \"name\": \"rw\", \"image\": \"some\","
	"      \"volumeMounts\": [ { \"mountPath\": \"/mnt\", \"name\": \"data\" } ] } ],"
	"    \"volumes\": [ { \"name\": \"data\", \"rbd\": {"
	"      \"monitors\": [ \"192.168.0.2:6789\", \"192.168.0.1:6789\" ],"
	"      \"pool\": \"kube\", \"image\": \"foo\", \"user\": \"someone\","
	"      \"secretRef\": { \"name\": \"ceph-secret\" },"
	"      \"fsType\": \"ext4\", \"readOnly\": true } } ] } }";

static const char pod_yaml[] = "---\n"
			       "apiVersion: v1\n"
			       "kind: Pod\n"
			       "metadata: {name: new, uid: 1f2e, namespace: shop}\n"
			       "spec:\n"
			       "  volumes:\n"
			       "  - name: data # the only one\n"
			       "    rbd:\n"
			       "      monitors: [\"10.0.0.1:6789\"]\n"
			       "      image: 'foo'\n"
			       "      readOnly: false\n"
			       "      secretRef:\n"
			       "...\n";

static const char secret_yaml[] = "apiVersion: v1\n"
				  "kind: Secret\n"
				  "metadata:\n"
				  "  name: ceph-secret\n"
				  "type: \"kubernetes.io/rbd\"\n"
				  "data:\n"
				  "  key: " KEY_BASE64 "\n";

static json_t *document(const char *text)
{
	struct error err = ERROR_NONE;
	json_t *json = NULL;
	int r = document_parse("file", text, strlen(text), &json, &err);

	if (r < 0)
		print_error("%s\n", err.text);
	assert_int_equal(r, 0);
	return json;
}

static void refuse_document(const char *text, const char *part)
{
	struct error err = ERROR_NONE;
	json_t *json = NULL;

	assert_int_equal(document_parse("file", text, strlen(text), &json, &err), -EINVAL);
	if (!strstr(err.text, part))
		print_error("%s: \"%s\" does not hold \"%s\"\n", text, err.text, part);
	assert_non_null(strstr(err.text, part));
}

static void a_pod_of_2015_is_read(void **state)
{
	cleanup_json json_t *json = document(pod_2015);
	struct pod_volume volume;
	struct error err;

	assert_int_equal(pod_volume_parse("file", json, NULL, &volume, &err), 0);
	assert_string_equal(volume.name, "data");
	assert_string_equal(volume.secret, "ceph-secret");
	assert_string_equal(volume.spec.monitors, "192.168.0.1:6789,192.168.0.2:6789");
	assert_string_equal(volume.spec.pool, "kube");
	assert_string_equal(volume.spec.image, "foo");
	assert_string_equal(volume.spec.user, "someone");
	assert_string_equal(volume.spec.fs_type, "ext4");
	assert_true(volume.spec.read_only);
	assert_int_equal(strlen(volume.uid), 36);
	pod_volume_deinit(&volume);
}

static void a_pod_in_yaml_is_read(void **state)
{
	cleanup_json json_t *json = document(pod_yaml);
	struct pod_volume volume;
	struct error err;

	assert_int_equal(pod_volume_parse("file", json, "data", &volume, &err), 0);
	assert_string_equal(volume.uid, "1f2e");
	assert_null(volume.secret);
	assert_string_equal(volume.spec.image, "foo");
	assert_false(volume.spec.read_only);
	pod_volume_deinit(&volume);
}

static void derived_uids_are_stable_and_differ(void **state)
{
	cleanup_json json_t *one = document(POD("{}"));
	cleanup_json json_t *two = document(POD("{}"));
	cleanup_json json_t *other = document(pod_2015);
	struct pod_volume a, b, c;
	struct error err;

	assert_int_equal(pod_volume_parse("file", one, NULL, &a, &err), 0);
	assert_int_equal(pod_volume_parse("file", two, NULL, &b, &err), 0);
	assert_int_equal(pod_volume_parse("file", other, NULL, &c, &err), 0);
	assert_string_equal(a.uid, b.uid);
	assert_string_not_equal(a.uid, c.uid);
	pod_volume_deinit(&a);
	pod_volume_deinit(&b);
	pod_volume_deinit(&c);
}

static void refuse_pod(const char *text, const char *name, const char *part)
{
	cleanup_json json_t *json = document(text);
	struct error err = ERROR_NONE;
	struct pod_volume volume;

	assert_true(pod_volume_parse("file", json, name, &volume, &err) < 0);
	if (!strstr(err.text, part))
		print_error("%s: \"%s\" does not hold \"%s\"\n", text, err.text, part);
	assert_non_null(strstr(err.text, part));
	pod_volume_deinit(&volume);
}

static void wrong_pods_are_refused(void **state)
{
	refuse_pod(secret_yaml, NULL, "a Secret, where a Pod");
	refuse_pod("{\"a\":1}", NULL, "must have kind: Pod");
	refuse_pod("{\"kind\":\"Pod\"}", NULL, "metadata.name");
	refuse_pod("{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}}", NULL, "spec.volumes");
	refuse_pod(POD("{}"), "tmp", "no rbd volume");
	refuse_pod(POD("{}"), "none", "no volume \"none\"");
	refuse_pod(POD("7"), NULL, "rbd must be an object");
	refuse_pod(POD("{\"imaeg\":\"x\"}"), NULL, "unknown option \"imaeg\"");
	refuse_pod(POD("{\"monitors\":\"a\"}"), NULL, "monitors must be a list");
	refuse_pod(POD("{\"monitors\":[1]}"), NULL, "monitors must hold nothing but strings");
	refuse_pod(POD("{\"readOnly\":\"true\"}"), NULL, "readOnly must be true or false");
	refuse_pod(POD("{\"pool\":true}"), NULL, "pool must be a string");
	refuse_pod(POD("{\"secretRef\":{}}"), NULL,
		   "secretRef must be an object with the Secret's name");
	refuse_pod("{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\"uid\":\"../..\"}}", NULL,
		   "uid");
	refuse_pod("{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"},\"spec\":{\"volumes\":["
		   "{\"name\":\"a\",\"rbd\":{}},{\"name\":\"b\",\"rbd\":{}}]}}",
		   NULL, "--volume");
}

static int apply(const char *text, const char *name, struct volume_spec *spec, struct error *err)
{
	cleanup_json json_t *json = document(text);

	return pod_secret_apply("file", json, name, spec, err);
}

static void secrets_are_read(void **state)
{
	static const char *const secrets[] = {
		secret_yaml,
		"{\"kind\":\"Secret\",\"metadata\":{\"name\":\"ceph-secret\"},"
		"\"data\":{\"key\":\"" KEY_BASE64 "\"}}",
		"kind: Secret\nmetadata: {name: ceph-secret}\ndata: {userKey: '" KEY_BASE64 "'}\n",
		"kind: Secret\nmetadata: {name: ceph-secret}\n"
		"data:\n  a: eA==\n  key: |\n    QVFCQU1vMVZxRTFPTWhBQVZwRVJQY3lRVTVwelU2\n"
		"    SU9KMjJ4MXc9PQo=\n",
		"kind: Secret\nmetadata: {name: ceph-secret}\nstringData: {userKey: '" KEY "'}\n",
		"kind: Secret\nmetadata: {name: ceph-secret}\n"
		"data: {key: eA==}\nstringData: {key: '" KEY "'}\n",
		"kind: Secret\nmetadata: {name: ceph-secret}\n"
		"data: {key: '" KEY_BASE64 "'}\nstringData: {note: x}\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
		cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
		struct error err;

		assert_int_equal(apply(secrets[i], "ceph-secret", &spec, &err), 0);
		assert_string_equal(spec.key, KEY);
	}
}

static void refuse_secret(const char *text, const char *part)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
	struct error err = ERROR_NONE;

	assert_int_equal(apply(text, "ceph-secret", &spec, &err), -EINVAL);
	if (!strstr(err.text, part))
		print_error("%s: \"%s\" does not hold \"%s\"\n", text, err.text, part);
	assert_non_null(strstr(err.text, part));
	assert_null(strstr(err.text, KEY_BASE64));
}

static void wrong_secrets_are_refused(void **state)
{
	refuse_secret(pod_2015, "a Pod, where a Secret");
	refuse_secret("kind: Secret\nmetadata: {name: other}\ndata: {key: eA==}\n", "\"other\"");
	refuse_secret("kind: Secret\ndata: {key: eA==}\n", "metadata.name");
	refuse_secret("kind: Secret\nmetadata: {name: ceph-secret}\n", "has no data");
	refuse_secret("kind: Secret\nmetadata: {name: ceph-secret}\nstringData: {key: 1 2}\n",
		      "is no key");
	refuse_secret("kind: Secret\nmetadata: {name: ceph-secret}\ndata: {a: eA==, b: eA==}\n",
		      "2 entries");
	refuse_secret("kind: Secret\nmetadata: {name: ceph-secret}\ndata: {key: '?\?'}\n",
		      "base64");
	refuse_secret("kind: Secret\nmetadata: {name: ceph-secret}\ndata: {key: '" KEY_BASE64
		      "='}\n",
		      "base64");
	refuse_secret("kind: Secret\nmetadata: {name: ceph-secret}\ndata: {key: [a]}\n",
		      "must be a string");
}

static void wrong_documents_are_refused(void **state)
{
	char deep[256] = "a: ";

	memset(deep + 3, '[', 100);
	refuse_document(deep, "too deep");
	memset(deep, '{', 100);
	refuse_document(deep, "too deep");
	refuse_document("", "no");
	refuse_document("[a]", "no Kubernetes object");
	refuse_document("text", "no Kubernetes object");
	refuse_document("{\"a\": ", "line 1");
	refuse_document("{\"a\":1,\"a\":2}", "JSON");
	refuse_document("a: 1\na: 2\n", "twice");
	refuse_document("a: &x 1\nb: *x\n", "aliases");
	refuse_document("a: 1\n---\nb: 2\n", "more than one document");
	refuse_document("a: 'x\n", "YAML");
	refuse_document("? [a]\n: b\n", "must be a string");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pod_of_2015_is_read),
		cmocka_unit_test(a_pod_in_yaml_is_read),
		cmocka_unit_test(derived_uids_are_stable_and_differ),
		cmocka_unit_test(wrong_pods_are_refused),
		cmocka_unit_test(secrets_are_read),
		cmocka_unit_test(wrong_secrets_are_refused),
		cmocka_unit_test(wrong_documents_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
