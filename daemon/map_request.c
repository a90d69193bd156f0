#include "daemon/map_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/version.h"

static const char *text(json_t *params, const char *member, const char *fallback)
{
	const char *value = json_string_value(json_object_get(params, member));

	return value && *value ? value : fallback;
}

static unsigned number(json_t *params, const char *member, unsigned fallback)
{
	json_t *value = json_object_get(params, member);

	return value ? (unsigned)json_integer_value(value) : fallback;
}

static int missing(struct error *err, const char *member, const char *type)
{
	return error_set(err, -EINVAL, "\"%s\" is missing: an image of type %s needs it.", member,
			 type);
}

static int rbd_names(json_t *params, struct image_names *names, struct error *err)
{
	names->pool = text(params, "pool", "rbd");
	names->namespace = text(params, "namespace", "");
	names->image = text(params, "image", NULL);
	names->snapshot = text(params, "snapshot", "");
	return names->image ? 0 : missing(err, "image", "rbd");
}

static int file_names(json_t *params, struct image_names *names, struct error *err)
{
	names->image = text(params, "path", NULL);
	return names->image ? 0 : missing(err, "path", "file");
}

/* A null image is called by its size, which moves into the params as a string that lives as long.
 */
static int null_names(json_t *params, struct image_names *names, struct error *err)
{
	json_t *size = json_object_get(params, "size");

	if (!size)
		return missing(err, "size", "null");
	if (json_object_set_new(params, "image",
				json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(size))) <
	    0)
		return error_set(err, -ENOMEM, "Out of memory.");
	names->image = text(params, "image", "");
	return 0;
}

bool image_names_given(json_t *params)
{
	return json_object_get(params, "image") || json_object_get(params, "path") ||
	       json_object_get(params, "size");
}

int image_names_parse(json_t *params, struct image_names *ret, struct error *err)
{
	struct image_names names = { text(params, "type", "rbd"), "", "", "", "" };
	int r;

	if (strcmp(names.type, "rbd") == 0)
		r = rbd_names(params, &names, err);
	else if (strcmp(names.type, "file") == 0)
		r = file_names(params, &names, err);
	else
		r = null_names(params, &names, err);
	if (r == 0)
		*ret = names;
	return r;
}

/* It will run with the daemon's rights, and who may use the socket is not root of necessity. */
static int check_hook(const char *hook, struct error *err)
{
	struct stat file;

	if (access(hook, X_OK) < 0 || stat(hook, &file) < 0)
		return error_set(err, -errno,
				 "The quiesce hook %s cannot be run: %s. Give an executable file.",
				 hook, errno_text(errno));
	if (!S_ISREG(file.st_mode))
		return error_set(err, -EINVAL, "The quiesce hook %s is no file.", hook);
	if ((file.st_uid != 0 && file.st_uid != geteuid()) || file.st_mode & (S_IWGRP | S_IWOTH))
		return error_set(
			err, -EPERM,
			"The quiesce hook %s could be changed by others than root: chown it "
			"to root, and chmod it go-w.",
			hook);
	return 0;
}

/* @hook, or the default one. Found out now, and not when somebody takes a snapshot. */
static int take_hook(const char *hook, struct map_request *request, struct error *err)
{
	if (strcmp(request->names.type, "rbd") != 0 || request->read_only)
		return error_set(err, -EINVAL,
				 "--quiesce is for RBD images that are written to: leave it out.");
	request->quiesce_hook = hook ? hook : QUIESCE_HOOK_DEFAULT;
	return check_hook(request->quiesce_hook, err);
}

int map_request_parse(json_t *params, struct map_request *ret, struct error *err)
{
	const char *hook = text(params, "quiesce_hook", NULL);
	struct map_request request = {
		.size = (uint64_t)json_integer_value(json_object_get(params, "size")),
		.read_only = json_is_true(json_object_get(params, "read_only")),
		.fault = text(params, "fault", NULL),
		.lock = text(params, "lock", LOCK_DEFAULT),
		.monitors = text(params, "monitors", NULL),
		.user = text(params, "user", "admin"),
		.key = text(params, "key", NULL),
		.keyring = text(params, "keyring", NULL),
		.conf = text(params, "conf", NULL),
		.options = json_object_get(params, "options"),
		.io_timeout = number(params, "io_timeout", 0),
		.client = text(params, "client", NULL),
		.frontend = text(params, "frontend", "auto"),
		.queues = number(params, "queues", 0),
		.queue_depth = number(params, "queue_depth", 0),
		.timeout = number(params, "timeout", MAP_TIMEOUT_DEFAULT),
	};
	int r;

	r = image_names_parse(params, &request.names, err);
	if (r < 0)
		return r;
	if (*request.names.snapshot)
		request.read_only = true;
	if (hook || json_is_true(json_object_get(params, "quiesce")))
		r = take_hook(hook, &request, err);
	if (r == 0)
		*ret = request;
	return r;
}

void image_names_format(const struct image_names *names, char *buffer, size_t size)
{
	if (strcmp(names->type, "rbd") != 0)
		snprintf(buffer, size, "%s:%s", names->type, names->image);
	else
		snprintf(buffer, size, "%s/%s%s%s%s%s", names->pool, names->namespace,
			 *names->namespace ? "/" : "", names->image, *names->snapshot ? "@" : "",
			 names->snapshot);
}

bool image_names_equal(const struct image_names *a, const struct image_names *b)
{
	return strcmp(a->type, b->type) == 0 && strcmp(a->pool, b->pool) == 0 &&
	       strcmp(a->namespace, b->namespace) == 0 && strcmp(a->image, b->image) == 0 &&
	       strcmp(a->snapshot, b->snapshot) == 0;
}
