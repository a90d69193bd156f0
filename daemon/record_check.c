#include "daemon/record_check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/client_pool.h"
#include "daemon/frontends.h"

static int check_types(json_t *record, struct error *err)
{
	json_error_t why;
	int r = json_unpack_ex(
		record, &why, JSON_VALIDATE_ONLY,
		"{s:i, s:s, s:b, s:s, s:i, s:i, s:i, s:s,"
		" s:{s:s, s:s, s:s, s:s, s:s},"
		" s:{s?s, s?s, s?s, s?s, s?s, s?o, s?o, s?s, s?s, s?s, s?s, s:i, s:i}}",
		"id", "identity", "read_only", "frontend", "number", "queues", "queue_depth",
		"client_address", "names", "type", "pool", "namespace", "image", "snapshot",
		"access", "monitors", "user", "key", "keyring", "conf", "options", "settings",
		"client", "lock", "fault", "quiesce_hook", "size", "io_timeout");

	return r < 0 ? error_set(err, -EINVAL, "lacks what it must have (%s)", why.text) : 0;
}

/* Strings from here on are strings. */
static const char *text(const json_t *object, const char *member)
{
	return json_string_value(json_object_get(object, member));
}

static int check_range(const json_t *object, const char *member, json_int_t min, json_int_t max,
		       struct error *err)
{
	json_int_t value = json_integer_value(json_object_get(object, member));

	if (value >= min && value <= max)
		return 0;
	return error_set(err, -EINVAL, "has a \"%s\" out of range", member);
}

static int check_word(const char *word, const char *const *words, const char *member,
		      struct error *err)
{
	for (; *words; words++)
		if (!word || strcmp(word, *words) == 0)
			return 0;
	return error_set(err, -EINVAL, "has a \"%s\" that is not known", member);
}

static int check_device(const char *device, const json_t *record, struct error *err)
{
	const struct frontend_ops *ops = frontend_named(text(record, "frontend"));
	char path[64];
	int r;

	if (!ops)
		return error_set(err, -EINVAL, "is of a frontend that is not known");
	r = check_range(record, "number", 0, INT_MAX, err);
	if (r == 0)
		r = check_range(record, "queues", 1, FRONTEND_HW_QUEUES_MAX, err);
	if (r == 0)
		r = check_range(record, "queue_depth", 1, FRONTEND_DEPTH_MAX, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s%" JSON_INTEGER_FORMAT, ops->path_prefix,
		 json_integer_value(json_object_get(record, "number")));
	if (strcmp(path, device) != 0)
		return error_set(err, -EINVAL, "is that of another device");
	return 0;
}

static int check_image(const json_t *record, struct error *err)
{
	static const char *const types[] = { "rbd", "file", "null", NULL };
	const json_t *names = json_object_get(record, "names");
	const char *identity = text(record, "identity");

	bool nameless = strcmp(text(names, "type"), "null") == 0;

	if ((!*identity && !nameless) || strlen(identity) >= IMAGE_IDENTITY_MAX ||
	    !*text(names, "image"))
		return error_set(err, -EINVAL, "does not tell its image");
	return check_word(text(names, "type"), types, "type", err);
}

static int check_options(const json_t *access, const char *member, struct error *err)
{
	json_t *value, *options = json_object_get(access, member);
	const char *name;

	if (options && !json_is_object(options))
		return error_set(err, -EINVAL, "has \"%s\" that are none", member);
	json_object_foreach(options, name, value) {
		if (!json_is_string(value))
			return error_set(err, -EINVAL, "has \"%s\" that are none", member);
	}
	return 0;
}

static int check_access(const json_t *access, struct error *err)
{
	static const char *const locks[] = { "auto", "exclusive", "none", NULL };
	struct client_policy ignored;
	struct error sentence;
	int r;

	if (client_policy_parse(text(access, "client"), &ignored, &sentence) < 0)
		return error_set(err, -EINVAL, "has a \"client\" that is not known");
	r = check_word(text(access, "lock"), locks, "lock", err);
	if (r == 0)
		r = check_options(access, "options", err);
	if (r == 0)
		r = check_options(access, "settings", err);
	if (r == 0)
		r = check_range(access, "size", 0, INT64_MAX, err);
	return r < 0 ? r : check_range(access, "io_timeout", 0, INT_MAX, err);
}

int record_check(const char *device, json_t *record, struct error *err)
{
	int r = check_types(record, err);

	if (r == 0)
		r = check_device(device, record, err);
	if (r == 0)
		r = check_image(record, err);
	return r < 0 ? r : check_access(json_object_get(record, "access"), err);
}
