#include "plugin/flex_options.h"

#include <errno.h>
#include <string.h>

#include "control/client.h"
#include "control/codec.h"

#define KUBELET_PREFIX "kubernetes.io/"
#define SECRET_PREFIX  KUBELET_PREFIX "secret/"

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int parse_object(const char *text, json_t **ret, struct error *err)
{
	size_t length = strlen(text);
	json_error_t parse;
	json_t *root;

	if (length > FLEX_OPTIONS_MAX)
		return error_set(err, -EINVAL, "the options are longer than %d bytes",
				 FLEX_OPTIONS_MAX);
	if (!control_depth_ok(text, length, 2))
		return error_set(err, -EINVAL, "the options are no flat JSON object of strings");
	root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &parse);
	if (!root) /* parse.text may quote the input, which may hold a key */
		return error_set(err, -EINVAL, "the options are no valid JSON (at byte %d)",
				 parse.position);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(err, -EINVAL, "the options are no JSON object");
	}
	*ret = root;
	return 0;
}

static int check_strings(json_t *options, struct error *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(options, name, value)
		if (!json_is_string(value))
			return error_set(
				err, -EINVAL,
				"option \"%.64s\" is no string; FlexVolume options are strings",
				name);
	return 0;
}

static int set_own_fields(struct volume_spec *spec, json_t *options, struct error *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(options, name, value) {
		int r;

		if (starts_with(name, KUBELET_PREFIX))
			continue;
		r = volume_spec_set(spec, name, json_string_value(value), err);
		if (r < 0)
			return r == -ENOENT ? -EINVAL : r;
	}
	return 0;
}

/*
 * What kubelet adds. It leaves fsType empty where the pod gives none. The pod's and the service
 * account's names and mounterArgs.FsGroup are not needed: kubelet itself changes the group.
 */
static int set_kubelet_fields(struct volume_spec *spec, json_t *options, struct error *err)
{
	const char *fs_type = json_string_value(json_object_get(options, KUBELET_PREFIX "fsType"));
	const char *access =
		json_string_value(json_object_get(options, KUBELET_PREFIX "readwrite"));

	if (access && strcmp(access, "ro") != 0 && strcmp(access, "rw") != 0)
		return error_set(err, -EINVAL, "kubernetes.io/readwrite is \"%.16s\", not ro or rw",
				 access);
	if (access && strcmp(access, "ro") == 0)
		spec->read_only = true;
	return fs_type ? volume_spec_set(spec, "fsType", fs_type, err) : 0;
}

/* A Secret may hold anything beside the key: the one called "key" is taken, or else the only one.
 */
static int set_secret(struct volume_spec *spec, json_t *options, struct error *err)
{
	const char *name, *chosen = NULL;
	unsigned found = 0;
	json_t *value;

	json_object_foreach(options, name, value) {
		if (!starts_with(name, SECRET_PREFIX))
			continue;
		found++;
		if (!chosen || strcmp(name, SECRET_PREFIX "key") == 0)
			chosen = name;
	}
	if (found == 0)
		return 0;
	if (found > 1 && strcmp(chosen, SECRET_PREFIX "key") != 0)
		return error_set(err, -EINVAL,
				 "the Secret holds %u entries and none is called \"key\"; "
				 "call the one with the Ceph key so",
				 found);
	return volume_spec_set_secret(spec, chosen + strlen(SECRET_PREFIX),
				      json_string_value(json_object_get(options, chosen)), err);
}

int flex_options_parse(const char *text, struct volume_spec *spec, struct error *err)
{
	cleanup_json json_t *options = NULL;
	int r;

	r = parse_object(text, &options, err);
	if (r == 0)
		r = check_strings(options, err);
	if (r == 0)
		r = set_own_fields(spec, options, err);
	if (r == 0)
		r = set_kubelet_fields(spec, options, err);
	if (r == 0)
		r = set_secret(spec, options, err);
	return r == 0 ? volume_spec_finish(spec, err) : r;
}
