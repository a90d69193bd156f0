#include "control/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"
#include "control/schema.h"

/* --- One member ------------------------------------------------------------------------------- */

static int wrong(struct error *err, const struct control_member *member, const char *what)
{
	return error_set(err, -EINVAL, "\"%s\" must be %s.", member->name, what);
}

/* "auto, ublk or nbd" */
static void choices_text(const char *choices, char *text, size_t size)
{
	const char *last = strrchr(choices, '|');
	size_t at = 0;

	for (; *choices && at + 8 < size; choices++) {
		if (*choices == '|')
			at += (size_t)snprintf(text + at, size - at,
					       choices == last ? " or " : ", ");
		else
			text[at++] = *choices;
	}
	text[at] = '\0';
}

static int check_choice(const struct control_member *member, const char *value, struct error *err)
{
	size_t length = strlen(value);
	const char *choice = member->choices;
	char text[160];

	while (choice) {
		if (strcspn(choice, "|") == length && strncmp(choice, value, length) == 0)
			return 0;
		choice = strchr(choice, '|');
		choice = choice ? choice + 1 : NULL;
	}
	choices_text(member->choices, text, sizeof(text));
	return wrong(err, member, text);
}

static bool has_control_characters(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return true;
	return false;
}

static int check_string(const struct control_member *member, json_t *json, struct error *err)
{
	const char *value = json_string_value(json);
	size_t length = json_string_length(json);

	if (!value)
		return wrong(err, member, "a string");
	if (length < (size_t)member->min)
		return wrong(err, member, "a string that is not empty");
	if (member->kind == CONTROL_CHOICE)
		return check_choice(member, value, err);
	if (length > (size_t)member->max)
		return error_set(err, -EINVAL, "\"%s\" must be at most %" PRIi64 " bytes long.",
				 member->name, member->max);
	if (has_control_characters(value))
		return wrong(err, member, "a text without control characters or line breaks");
	if (member->kind == CONTROL_NAME && strpbrk(value, "/@"))
		return wrong(err, member, "a name without '/' and '@'");
	if (member->kind == CONTROL_PATH && value[0] != '/')
		return wrong(err, member, "an absolute path");
	return 0;
}

static int check_integer(const struct control_member *member, json_t *json, struct error *err)
{
	json_int_t value = json_integer_value(json);

	if (json_is_integer(json) && value >= member->min && value <= member->max)
		return 0;
	return error_set(err, -EINVAL, "\"%s\" must be an integer from %" PRIi64 " to %" PRIi64 ".",
			 member->name, member->min, member->max);
}

#define OPTION_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

static int check_option(const struct control_member *member, const char *name, json_t *value,
			struct error *err)
{
	if (!*name || strlen(name) > 128 || name[strspn(name, OPTION_CHARACTERS)])
		return error_set(
			err, -EINVAL,
			"\"%s\" holds a name that is none of librbd's: letters, digits and "
			"'_' are allowed.",
			member->name);
	if (strcmp(name, "key") == 0)
		return error_set(err, -EINVAL, "\"%s\" must not hold the key: give it as \"key\".",
				 member->name);
	if (!json_is_string(value))
		return error_set(err, -EINVAL, "\"%s\".\"%s\" must be a string.", member->name,
				 name);
	if (json_string_length(value) > 4096 || has_control_characters(json_string_value(value)))
		return error_set(err, -EINVAL,
				 "\"%s\".\"%s\" must be at most 4096 bytes long, without control "
				 "characters.",
				 member->name, name);
	return 0;
}

static int check_options(const struct control_member *member, json_t *json, struct error *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(json))
		return wrong(err, member, "an object of strings");
	if ((int64_t)json_object_size(json) > member->max)
		return error_set(err, -EINVAL, "\"%s\" must have at most %" PRIi64 " members.",
				 member->name, member->max);
	json_object_foreach(json, name, value) {
		int r = check_option(member, name, value, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_member(const struct control_member *member, json_t *json, struct error *err)
{
	switch (member->kind) {
	case CONTROL_INTEGER:
		return check_integer(member, json, err);
	case CONTROL_BOOLEAN:
		return json_is_boolean(json) ? 0 : wrong(err, member, "true or false");
	case CONTROL_OPTIONS:
		return check_options(member, json, err);
	default:
		return check_string(member, json, err);
	}
}

/* --- What goes together ----------------------------------------------------------------------- */

static const char *type_of(json_t *params)
{
	const char *type = json_string_value(json_object_get(params, "type"));

	return type ? type : "rbd";
}

static int need(json_t *params, const char *type, const char *name, struct error *err)
{
	if (json_object_get(params, name))
		return 0;
	return error_set(err, -EINVAL, "\"%s\" is missing: an image of type %s needs it.", name,
			 type);
}

/* A member that tells nothing about this kind of image is a mistake of the caller. */
static int refuse(json_t *params, const char *type, const char *const *names, struct error *err)
{
	for (; *names; names++)
		if (json_object_get(params, *names))
			return error_set(err, -EINVAL,
					 "\"%s\" does not go with an image of type %s: leave it "
					 "out.",
					 *names, type);
	return 0;
}

static const char *const rbd_only[] = { "pool",	      "namespace", "image",  "snapshot",
					"user",	      "monitors",  "key",    "keyring",
					"conf",	      "options",   "client", "lock",
					"io_timeout", NULL };

static int check_image(json_t *params, struct error *err)
{
	const char *type = type_of(params);
	bool rbd = strcmp(type, "rbd") == 0, file = strcmp(type, "file") == 0;
	const char *const others[] = { rbd || file ? "size" : "path", rbd ? "path" : NULL, NULL };
	int r;

	r = need(params, type, rbd ? "image" : file ? "path" : "size", err);
	if (r == 0)
		r = refuse(params, type, others, err);
	if (r == 0 && !rbd)
		r = refuse(params, type, rbd_only, err);
	return r;
}

static int check_user(json_t *params, struct error *err)
{
	const char *user = json_string_value(json_object_get(params, "user"));

	if (!user || strncmp(user, "client.", 7) != 0)
		return 0;
	return error_set(err, -EINVAL,
			 "\"user\" must be the name alone: leave out the \"client.\" before it.");
}

static int check_client(json_t *params, struct error *err)
{
	const char *client = json_string_value(json_object_get(params, "client"));
	unsigned count;

	if (!client || strcmp(client, "shared") == 0 || strcmp(client, "isolated") == 0)
		return 0;
	if (strncmp(client, "pool:", 5) == 0 &&
	    parse_unsigned(client + 5, 1, CONTROL_CLIENTS_MAX, &count) == 0)
		return 0;
	return error_set(err, -EINVAL,
			 "\"client\" must be shared, isolated or pool:N with N from 1 to %d.",
			 CONTROL_CLIENTS_MAX);
}

int control_check_map(json_t *params, struct error *err)
{
	int r;

	r = check_image(params, err);
	if (r == 0)
		r = check_user(params, err);
	if (r == 0)
		r = check_client(params, err);
	return r;
}

/* A member that names an image, or NULL. */
static const char *image_member(json_t *params)
{
	static const char *const names[] = { "type",	 "pool", "namespace", "image",
					     "snapshot", "path", "size",      NULL };

	for (const char *const *name = names; *name; name++)
		if (json_object_get(params, *name))
			return *name;
	return NULL;
}

/* A device is named either by the member @own or by its image. */
static int check_either(json_t *params, const char *own, struct error *err)
{
	const char *other = image_member(params);

	if (!json_object_get(params, own))
		return check_image(params, err);
	if (!other)
		return 0;
	return error_set(err, -EINVAL,
			 "\"%s\" and \"%s\" exclude each other: name either the %s or the image.",
			 own, other, own);
}

int control_check_unmap(json_t *params, struct error *err)
{
	bool all = json_is_true(json_object_get(params, "all"));

	if (all && json_object_get(params, "device"))
		return error_set(err, -EINVAL, "\"all\" and \"device\" exclude each other.");
	return check_either(params, all ? "all" : "device", err);
}

int control_check_unexport(json_t *params, struct error *err)
{
	bool by_name = json_object_get(params, "name") && !image_member(params);

	return by_name ? 0 : check_image(params, err);
}

/* All; or the device; or what has the name, or is of the image, or either. */
int control_check_stat(json_t *params, struct error *err)
{
	const char *image = image_member(params);
	const char *other = json_object_get(params, "export") ? "export" : image;

	if (json_object_get(params, "device") && other)
		return error_set(err, -EINVAL, "\"device\" and \"%s\" exclude each other.", other);
	return image ? check_image(params, err) : 0;
}

#define SETTING_PREFIX "rbd_qos_"

static int check_settings(json_t *settings, struct error *err)
{
	const char *name;
	json_t *value;

	if (json_object_size(settings) == 0)
		return error_set(err, -EINVAL, "\"settings\" is empty: say what to change.");
	json_object_foreach(settings, name, value)
		if (strncmp(name, SETTING_PREFIX, strlen(SETTING_PREFIX)) != 0)
			return error_set(err, -EINVAL,
					 "%s cannot be changed while the image is in use; "
					 "only " SETTING_PREFIX
					 "... can. Unmap it, and map it with --options.",
					 name);
	return 0;
}

/* Either the device, or the export, or the image. */
int control_check_set(json_t *params, struct error *err)
{
	unsigned given = (json_object_get(params, "device") != NULL) +
			 (json_object_get(params, "export") != NULL);
	bool names = image_member(params) != NULL;

	if (given + names != 1)
		return error_set(err, -EINVAL,
				 "Name one thing: the device, the export or the image.");
	if (names && check_image(params, err) < 0)
		return err->code;
	return check_settings(json_object_get(params, "settings"), err);
}

static int check_listen(json_t *params, struct error *err)
{
	const char *listen = json_string_value(json_object_get(params, "listen"));
	static const char *const settings[] = { "tls_certificates", "tls_keys", "max_connections",
						NULL };

	for (const char *const *name = settings; !listen && *name; name++)
		if (json_object_get(params, *name))
			return error_set(err, -EINVAL,
					 "\"%s\" goes with an address: give \"listen\" as well.",
					 *name);
	if (listen && strncmp(listen, "unix:", 5) == 0 && listen[5] != '/')
		return error_set(err, -EINVAL, "\"listen\" must be unix: and an absolute path.");
	if (json_object_get(params, "tls_certificates") && json_object_get(params, "tls_keys"))
		return error_set(err, -EINVAL,
				 "\"tls_certificates\" and \"tls_keys\" exclude each other.");
	return 0;
}

int control_check_export(json_t *params, struct error *err)
{
	int r = control_check_map(params, err);

	return r < 0 ? r : check_listen(params, err);
}

/* --- The params ------------------------------------------------------------------------------- */

/* @name comes from outside: no more of it than a sentence can bear. */
static int unknown(const struct control_method *method, const char *name, struct error *err)
{
	return error_set(err, -EINVAL,
			 "\"%.64s\" is no parameter of %s: leave it out, or mend its name.", name,
			 method->name);
}

static int check_given(const struct control_method *method, json_t *params, struct error *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(params, name, value) {
		const struct control_member *member = control_param_of(method, name);
		int r = member ? check_member(member, value, err) : unknown(method, name, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_required(const struct control_member *members, json_t *params, struct error *err)
{
	for (; members && members->name; members++)
		if (members->required && !json_object_get(params, members->name))
			return error_set(err, -EINVAL, "\"%s\" is missing.", members->name);
	return 0;
}

int control_check_params(const char *name, json_t *params, struct error *err)
{
	const struct control_method *method = control_method_find(name);
	int r;

	if (!method)
		return error_set(err, -ENOSYS, "There is no method \"%.64s\".", name);
	if (params && !json_is_object(params))
		return error_set(err, -EINVAL, "\"params\" must be an object.");
	r = check_given(method, params, err);
	for (unsigned i = 0; r == 0 && i < CONTROL_GROUPS_MAX; i++)
		r = check_required(method->params[i], params, err);
	if (r == 0 && method->check)
		r = method->check(params, err);
	return r;
}
