#include "plugin/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/client.h"

#define MAP_SECONDS_MAX 30
#define MARGIN_SECONDS	2 /* for the answer of a call that urbdd gave up */

void daemon_device_deinit(struct daemon_device *device)
{
	free(device->device);
	*device = (struct daemon_device){ 0 };
}

void daemon_image_deinit(struct daemon_image *image)
{
	free(image->pool);
	free(image->namespace);
	free(image->image);
	*image = (struct daemon_image){ 0 };
}

static unsigned seconds_left(struct timespec deadline)
{
	int seconds = deadline_left_ms(&deadline) / 1000 - MARGIN_SECONDS;

	return (unsigned)MAX(1, MIN(seconds, MAP_SECONDS_MAX));
}

/* One call on a connection of its own: the workflow makes few, and long apart. */
static int call(const char *socket, const char *method, json_t *params, unsigned seconds,
		json_t **ret, struct error *err)
{
	cleanup_control_client struct control_client *client = NULL;
	int r;

	if (!params)
		return error_set(err, -ENOMEM, "out of memory");
	r = control_connect(socket, &client, err);
	if (r < 0) {
		json_decref(params);
		return r;
	}
	return control_call(client, method, params, seconds + MARGIN_SECONDS, ret, err);
}

/* "s*" leaves out what is NULL. Without a key the keyring is read by urbdd. */
static json_t *map_params(const struct volume_spec *spec, bool read_only, unsigned seconds)
{
	return json_pack("{s:s, s:s, s:s*, s:s, s:s, s:s, s:s*, s:s*, s:O*, s:b, s:i}", "type",
			 "rbd", "pool", spec->pool, "namespace", spec->namespace, "image",
			 spec->image, "user", spec->user, "monitors", spec->monitors, "key",
			 spec->key, "keyring", spec->key ? NULL : spec->keyring, "options",
			 spec->map_options, "read_only", read_only, "timeout", (int)seconds);
}

int daemon_map(const char *socket, const struct volume_spec *spec, bool read_only,
	       struct timespec deadline, struct daemon_device *ret, struct error *err)
{
	unsigned seconds = seconds_left(deadline);
	cleanup_json json_t *result = NULL;
	const char *device;
	int r;

	r = call(socket, "map", map_params(spec, read_only, seconds), seconds, &result, err);
	if (r < 0)
		return r;
	device = json_string_value(json_object_get(result, "device"));
	if (!device)
		return error_set(err, -EPROTO, "urbdd answered map without a device");
	ret->device = strdup(device);
	ret->existing = json_is_true(json_object_get(result, "existing"));
	ret->read_only = json_is_true(json_object_get(result, "read_only"));
	return ret->device ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int daemon_unmap(const char *socket, const char *device, struct timespec deadline,
		 struct error *err)
{
	unsigned seconds = seconds_left(deadline);
	cleanup_json json_t *result = NULL;
	int r;

	r = call(socket, "unmap",
		 json_pack("{s:s, s:i}", "device", device, "timeout", (int)seconds), seconds,
		 &result, err);
	return r == -ENXIO ? 0 : r;
}

/* --- The list -----------------------------------------------------------------------------------
 */

static const char *text_at(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

static int list(const char *socket, struct timespec deadline, json_t **ret, struct error *err)
{
	return call(socket, "list", json_object(), seconds_left(deadline), ret, err);
}

static bool is_whole_image(const json_t *entry)
{
	return strcmp(text_at(entry, "type"), "rbd") == 0 && !*text_at(entry, "snapshot");
}

static int copy_image(const json_t *entry, struct daemon_image *ret, struct error *err)
{
	const char *namespace = text_at(entry, "namespace");

	ret->pool = strdup(text_at(entry, "pool"));
	ret->image = strdup(text_at(entry, "image"));
	ret->namespace = *namespace ? strdup(namespace) : NULL;
	if (!ret->pool || !ret->image || (*namespace && !ret->namespace))
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}

int daemon_image_of(const char *socket, const char *device, struct timespec deadline,
		    struct daemon_image *ret, struct error *err)
{
	cleanup_json json_t *result = NULL;
	const json_t *entry;
	size_t i;
	int r;

	r = list(socket, deadline, &result, err);
	if (r < 0)
		return r;
	json_array_foreach(json_object_get(result, "devices"), i, entry)
		if (strcmp(text_at(entry, "device"), device) == 0 && is_whole_image(entry))
			return copy_image(entry, ret, err);
	return error_set(err, -ENXIO, "urbd serves no image at %s", device);
}

static bool is_image(const json_t *entry, const struct daemon_image *image)
{
	return is_whole_image(entry) && strcmp(text_at(entry, "pool"), image->pool) == 0 &&
	       strcmp(text_at(entry, "image"), image->image) == 0 &&
	       strcmp(text_at(entry, "namespace"), image->namespace ? image->namespace : "") == 0;
}

int daemon_device_of(const char *socket, const struct daemon_image *image, struct timespec deadline,
		     char **ret, struct error *err)
{
	cleanup_json json_t *result = NULL;
	const char *found = NULL;
	const json_t *entry;
	size_t i;
	int r;

	r = list(socket, deadline, &result, err);
	if (r < 0)
		return r;
	json_array_foreach(json_object_get(result, "devices"), i, entry) {
		if (!is_image(entry, image))
			continue;
		if (found)
			return error_set(err, -ENOTUNIQ, "several clusters' %s/%s are mapped",
					 image->pool, image->image);
		found = text_at(entry, "device");
	}
	if (!found)
		return error_set(err, -ENXIO, "%s/%s is not mapped", image->pool, image->image);
	*ret = strdup(found);
	return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}
