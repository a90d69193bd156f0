#include "plugin/pod.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "plugin/naming.h"

#define COMPONENT_MAX 253 /* Kubernetes' bound for names; they become components of paths */

void pod_volume_deinit(struct pod_volume *volume)
{
	free(volume->uid);
	free(volume->name);
	free(volume->secret);
	volume_spec_deinit(&volume->spec);
	*volume = (struct pod_volume){ 0 };
}

/* --- Small reads --------------------------------------------------------------------------------
 */

static const char *text_at(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static int check_kind(const char *file, const json_t *object, const char *kind, struct error *err)
{
	const char *found = text_at(object, "kind");

	if (!found)
		return error_set(err, -EINVAL, "%s: no Kubernetes object; it must have kind: %s",
				 file, kind);
	if (strcmp(found, kind) != 0)
		return error_set(err, -EINVAL, "%s: a %.64s, where a %s is needed", file, found,
				 kind);
	return 0;
}

/* Copies a name that will be a component of a path. */
static int copy_component(const char *file, const char *what, const char *text, char **ret,
			  struct error *err)
{
	if (!*text || strlen(text) > COMPONENT_MAX || strchr(text, '/') || text[0] == '.')
		return error_set(err, -EINVAL,
				 "%s: %s must be a directory's name: 1 to %d bytes, without '/', "
				 "not beginning with '.'",
				 file, what, COMPONENT_MAX);
	*ret = strdup(text);
	return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* --- The pod ------------------------------------------------------------------------------------
 */

/* Files seldom have a uid: the API server gives it. The derived one is the same at every call. */
static int read_uid(const char *file, const json_t *pod, char **ret, struct error *err)
{
	const json_t *metadata = json_object_get(pod, "metadata");
	const char *uid = text_at(metadata, "uid"), *name = text_at(metadata, "name");
	const char *namespace = text_at(metadata, "namespace");
	cleanup_free char *full = NULL;

	if (uid)
		return copy_component(file, "metadata.uid", uid, ret, err);
	if (!name)
		return error_set(err, -EINVAL, "%s: metadata.name is missing; give the pod a name",
				 file);
	if (asprintf(&full, "%s/%s", namespace ? namespace : "default", name) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	*ret = naming_uuid(full);
	return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static const json_t *find_named(const char *file, const json_t *volumes, const char *name,
				struct error *err)
{
	const json_t *volume;
	size_t i;

	json_array_foreach(volumes, i, volume) {
		const char *found = text_at(volume, "name");

		if (!found || strcmp(found, name) != 0)
			continue;
		if (json_object_get(volume, "rbd"))
			return volume;
		error_set(err, -EINVAL,
			  "%s: volume \"%s\" is no rbd volume; choose one that has rbd: {...}",
			  file, name);
		return NULL;
	}
	error_set(err, -ENOENT,
		  "%s: the pod has no volume \"%s\"; choose one of spec.volumes with --volume",
		  file, name);
	return NULL;
}

static const json_t *find_only(const char *file, const json_t *volumes, struct error *err)
{
	const json_t *volume, *found = NULL;
	size_t i;

	json_array_foreach(volumes, i, volume) {
		if (!json_object_get(volume, "rbd"))
			continue;
		if (found) {
			error_set(err, -EINVAL,
				  "%s: the pod has several rbd volumes; choose one with --volume",
				  file);
			return NULL;
		}
		found = volume;
	}
	if (!found)
		error_set(err, -ENOENT,
			  "%s: the pod has no rbd volume; one of spec.volumes must have rbd: {...}",
			  file);
	return found;
}

static const json_t *find_volume(const char *file, const json_t *pod, const char *name,
				 struct error *err)
{
	const json_t *volumes = json_object_get(json_object_get(pod, "spec"), "volumes");

	if (!json_is_array(volumes)) {
		error_set(err, -EINVAL,
			  "%s: the pod has no spec.volumes; it must be a list, with an rbd volume "
			  "in it",
			  file);
		return NULL;
	}
	return name ? find_named(file, volumes, name, err) : find_only(file, volumes, err);
}

/* --- Its rbd volume -----------------------------------------------------------------------------
 */

static int set_monitors(const json_t *list, struct volume_spec *spec, struct error *err)
{
	char joined[4096] = "", *end = joined;
	const json_t *monitor;
	size_t i;

	if (!json_is_array(list))
		return error_set(err, -EINVAL,
				 "monitors must be a list of strings: [\"10.0.0.1:6789\"]");
	json_array_foreach(list, i, monitor) {
		const char *text = json_string_value(monitor);

		if (!text)
			return error_set(
				err, -EINVAL,
				"monitors must hold nothing but strings: [\"10.0.0.1:6789\"]");
		if (strlen(text) + 2 > (size_t)(joined + sizeof(joined) - end))
			return error_set(err, -EINVAL, "monitors is too long; name fewer of them");
		end = stpcpy(stpcpy(end, ","), text);
	}
	return volume_spec_set(spec, "monitors", joined, err);
}

static int set_secret_name(const json_t *reference, char **ret, struct error *err)
{
	const char *name = text_at(reference, "name");

	if (!name)
		return json_is_null(reference) ? 0
					       : error_set(err, -EINVAL,
							   "secretRef must be an object with the "
							   "Secret's name: { name: ceph-secret }");
	*ret = strdup(name);
	return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* Lists and objects have their own readers; the rest goes to the spec as text. */
static int set_member(struct pod_volume *volume, const char *name, const json_t *value,
		      struct error *err)
{
	if (strcmp(name, "monitors") == 0)
		return set_monitors(value, &volume->spec, err);
	if (strcmp(name, "secretRef") == 0)
		return set_secret_name(value, &volume->secret, err);
	if (json_is_null(value))
		return 0;
	if (strcmp(name, "readOnly") == 0 && json_is_boolean(value))
		return volume_spec_set(&volume->spec, name, json_is_true(value) ? "true" : "false",
				       err);
	if (strcmp(name, "readOnly") == 0)
		return error_set(err, -EINVAL, "readOnly must be true or false, without quotes");
	if (!json_is_string(value))
		return error_set(err, -EINVAL, "%.64s must be a string; put it in quotes", name);
	return volume_spec_set(&volume->spec, name, json_string_value(value), err);
}

static int read_rbd(const char *file, const json_t *source, struct pod_volume *volume,
		    struct error *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(source))
		return error_set(
			err, -EINVAL,
			"%s: volume \"%s\": rbd must be an object with monitors, image and more",
			file, volume->name);
	json_object_foreach((json_t *)source, name, value)
		if (set_member(volume, name, value, err) < 0)
			return error_prefix(err, "%s: volume \"%s\": ", file, volume->name);
	return 0;
}

int pod_volume_parse(const char *file, const json_t *pod, const char *name, struct pod_volume *ret,
		     struct error *err)
{
	const json_t *volume;
	const char *found;
	int r;

	*ret = (struct pod_volume){ 0 };
	r = check_kind(file, pod, "Pod", err);
	if (r == 0)
		r = read_uid(file, pod, &ret->uid, err);
	if (r < 0)
		return r;
	volume = find_volume(file, pod, name, err);
	if (!volume)
		return err->code;
	found = text_at(volume, "name");
	if (!found)
		return error_set(err, -EINVAL, "%s: the rbd volume has no name; give it one", file);
	r = copy_component(file, "the volume's name", found, &ret->name, err);
	return r < 0 ? r : read_rbd(file, json_object_get(volume, "rbd"), ret, err);
}

/* --- The Secret ---------------------------------------------------------------------------------
 */

static int check_secret_name(const char *file, const json_t *secret, const char *name,
			     struct error *err)
{
	const char *found = text_at(json_object_get(secret, "metadata"), "name");

	if (!found)
		return error_set(err, -EINVAL,
				 "%s: metadata.name is missing; it must be \"%.128s\", the "
				 "volume's secretRef",
				 file, name);
	if (strcmp(found, name) != 0)
		return error_set(err, -EINVAL,
				 "%s: it is the Secret \"%.128s\"; the volume wants \"%.128s\"",
				 file, found, name);
	return 0;
}

/* An API server turns stringData into data; a file may still have it. It wins over data there. */
static bool is_plain(const json_t *secret)
{
	const json_t *plain = json_object_get(secret, "stringData");

	return json_object_get(plain, "key") ||
	       (json_object_size(plain) && !json_object_size(json_object_get(secret, "data")));
}

/* The entry of data that holds the key: "key", or the only one. */
static const char *choose_entry(const char *file, const json_t *data, struct error *err)
{
	void *first = json_object_iter((json_t *)data);

	if (!first) {
		error_set(err, -EINVAL,
			  "%s: the Secret has no data; it must hold the Ceph user's key: "
			  "data: { key: BASE64 }",
			  file);
		return NULL;
	}
	if (json_object_get(data, "key"))
		return "key";
	if (json_object_size(data) == 1)
		return json_object_iter_key(first);
	error_set(err, -EINVAL,
		  "%s: data holds %zu entries and none is called \"key\"; name the one with the "
		  "key so",
		  file, json_object_size(data));
	return NULL;
}

int pod_secret_apply(const char *file, const json_t *secret, const char *name,
		     struct volume_spec *spec, struct error *err)
{
	bool plain = is_plain(secret);
	const json_t *data = json_object_get(secret, plain ? "stringData" : "data");
	const char *entry, *value;
	int r;

	r = check_kind(file, secret, "Secret", err);
	if (r == 0)
		r = check_secret_name(file, secret, name, err);
	if (r < 0)
		return r;
	entry = choose_entry(file, data, err);
	if (!entry)
		return err->code;
	value = text_at(data, entry);
	if (!value)
		return error_set(err, -EINVAL, "%s: %s.%.64s must be a string: the key%s", file,
				 plain ? "stringData" : "data", entry, plain ? "" : " in base64");
	r = plain ? volume_spec_set_key(spec, value, strlen(value), err)
		  : volume_spec_set_secret(spec, entry, value, err);
	return r < 0 ? error_prefix(err, "%s: ", file) : 0;
}
