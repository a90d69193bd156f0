#include "plugin/spec.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "control/secrets.h"
#include "plugin/base64.h"

#define VALUE_MAX    4096 /* bytes of any field */
#define NAME_LENGTH  200  /* bytes of a pool's, namespace's or image's name */
#define FS_TYPE_MAX  15
#define MONITORS_MAX 64

void volume_spec_deinit(struct volume_spec *spec)
{
	free(spec->monitors);
	free(spec->pool);
	free(spec->namespace);
	free(spec->image);
	free(spec->user);
	free(spec->keyring);
	secret_free(spec->key);
	free(spec->fs_type);
	free(spec->mount_options);
	json_decref(spec->map_options);
	*spec = VOLUME_SPEC_NONE;
}

/* --- The setters: each checks a value and stores it ----------------------------------------------
 */

static int store(char **slot, const char *value, struct error *err)
{
	char *copy = strdup(value);

	if (!copy)
		return error_set(err, -ENOMEM, "out of memory");
	free(*slot);
	*slot = copy;
	return 0;
}

static int store_name(char **slot, const char *field, const char *value, struct error *err)
{
	if (strlen(value) > NAME_LENGTH)
		return error_set(err, -EINVAL, "%s is longer than %d bytes", field, NAME_LENGTH);
	if (strpbrk(value, "/@"))
		return error_set(err, -EINVAL, "%s \"%s\" holds a '/' or '@', which no %s may",
				 field, value, field);
	return store(slot, value, err);
}

static int set_pool(struct volume_spec *spec, const char *value, struct error *err)
{
	return store_name(&spec->pool, "pool", value, err);
}

static int set_namespace(struct volume_spec *spec, const char *value, struct error *err)
{
	return store_name(&spec->namespace, "namespace", value, err);
}

static int set_image(struct volume_spec *spec, const char *value, struct error *err)
{
	return store_name(&spec->image, "image", value, err);
}

static int set_user(struct volume_spec *spec, const char *value, struct error *err)
{
	if (strncmp(value, "client.", 7) == 0)
		return error_set(err, -EINVAL, "user \"%s\": leave out \"client.\", say \"%s\"",
				 value, value + 7);
	return store(&spec->user, value, err);
}

static int set_keyring(struct volume_spec *spec, const char *value, struct error *err)
{
	if (value[0] != '/')
		return error_set(err, -EINVAL, "keyring \"%s\" is not an absolute path", value);
	return store(&spec->keyring, value, err);
}

/* The type becomes a part of a program's name (mkfs.TYPE). */
static int set_fs_type(struct volume_spec *spec, const char *value, struct error *err)
{
	size_t length = strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_");

	if (value[length] || length > FS_TYPE_MAX)
		return error_set(err, -EINVAL,
				 "fsType \"%s\" is no file system; say ext4, xfs or the like",
				 value);
	return store(&spec->fs_type, value, err);
}

static int set_read_only(struct volume_spec *spec, const char *value, struct error *err)
{
	if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
		return error_set(err, -EINVAL, "readOnly is \"%s\"; say true or false", value);
	spec->read_only = strcmp(value, "true") == 0;
	return 0;
}

/* Options that would make another mount than the one which this program makes and finds again. */
static bool mount_option_allowed(const char *option)
{
	static const char *const refused[] = { "bind",	 "rbind",	"move",	   "remount",
					       "loop",	 "offset",	"fd",	   "sizelimit",
					       "helper", "uhelper",	"shared",  "private",
					       "slave",	 "unbindable",	"rshared", "rprivate",
					       "rslave", "runbindable", "user",	   "users",
					       "owner",	 "group" };
	size_t length = strcspn(option, "=");

	if (strncasecmp(option, "x-", 2) == 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (strlen(refused[i]) == length && strncmp(option, refused[i], length) == 0)
			return false;
	return true;
}

static int set_mount_options(struct volume_spec *spec, const char *value, struct error *err)
{
	cleanup_free char *copy = strdup(value);
	char *option, *rest = copy;

	if (!copy)
		return error_set(err, -ENOMEM, "out of memory");
	while ((option = strsep(&rest, ",")) != NULL)
		if (!mount_option_allowed(option))
			return error_set(err, -EINVAL, "mountOptions may not hold \"%s\"", option);
	return store(&spec->mount_options, value, err);
}

static int set_map_options(struct volume_spec *spec, const char *value, struct error *err)
{
	cleanup_free char *copy = strdup(value);
	json_t *options = json_object();
	char *option, *rest = copy;
	int r = copy && options ? 0 : error_set(err, -ENOMEM, "out of memory");

	while (r == 0 && (option = strsep(&rest, ",")) != NULL) {
		char *text = strchr(option, '=');

		if (!text || text == option)
			r = error_set(err, -EINVAL,
				      "mapOptions: \"%s\" is not of the form name=value", option);
		else if (*text++ = '\0',
			 json_object_set_new(options, option, json_string(text)) < 0)
			r = error_set(err, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		json_decref(options);
		return r;
	}
	json_decref(spec->map_options);
	spec->map_options = options;
	return 0;
}

/* --- Monitors -----------------------------------------------------------------------------------
 */

/* Cuts the next monitor off *rest: a comma inside of [...] belongs to one monitor's addresses. */
static char *next_monitor(char **rest)
{
	char *start = *rest;
	int depth = 0;

	if (!start)
		return NULL;
	for (char *at = start; *at; at++) {
		depth += (*at == '[') - (*at == ']');
		if (*at != ',' || depth > 0)
			continue;
		*at = '\0';
		*rest = at + 1;
		return start;
	}
	*rest = NULL;
	return start;
}

static char *strip(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	for (end = text + strlen(text); end > text && isspace((unsigned char)end[-1]);)
		*--end = '\0';
	return text;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *join_sorted(char **monitors, size_t count, size_t size)
{
	char *joined = calloc(1, size);
	char *end = joined;

	qsort(monitors, count, sizeof(*monitors), compare_text);
	for (size_t i = 0; joined && i < count; i++)
		if (i == 0 || strcmp(monitors[i], monitors[i - 1]) != 0)
			end = stpcpy(stpcpy(end, end == joined ? "" : ","), monitors[i]);
	return joined;
}

static int set_monitors(struct volume_spec *spec, const char *value, struct error *err)
{
	cleanup_free char *copy = strdup(value);
	char *monitors[MONITORS_MAX], *monitor, *joined, *rest = copy;
	size_t count = 0;

	while ((monitor = next_monitor(&rest)) != NULL) {
		monitor = strip(monitor);
		if (!*monitor)
			continue;
		if (strpbrk(monitor, " \t\n\r\"'"))
			return error_set(err, -EINVAL,
					 "monitors: \"%s\" is no address; separate them by commas",
					 monitor);
		if (count == MONITORS_MAX)
			return error_set(err, -EINVAL, "monitors: more than %d", MONITORS_MAX);
		monitors[count++] = monitor;
	}
	joined = copy ? join_sorted(monitors, count, strlen(value) + 2) : NULL;
	if (!joined)
		return error_set(err, -ENOMEM, "out of memory");
	free(spec->monitors);
	spec->monitors = joined;
	return 0;
}

/* --- The fields ---------------------------------------------------------------------------------
 */

static const struct field {
	const char *name;
	int (*set)(struct volume_spec *spec, const char *value, struct error *err);
} fields[] = {
	{ "monitors", set_monitors },
	{ "pool", set_pool },
	{ "image", set_image },
	{ "user", set_user },
	{ "keyring", set_keyring },
	{ "fsType", set_fs_type },
	{ "readOnly", set_read_only },
	{ "namespace", set_namespace },
	{ "mapOptions", set_map_options },
	{ "mountOptions", set_mount_options },
};

static int refuse_unknown(const char *name, struct error *err)
{
	char known[256] = "", *end = known;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		end = stpcpy(stpcpy(end, i ? ", " : ""), fields[i].name);
	return error_set(err, -ENOENT, "unknown option \"%.64s\"; there are %s", name, known);
}

static int check_text(const char *name, const char *value, struct error *err)
{
	if (strlen(value) > VALUE_MAX)
		return error_set(err, -EINVAL, "%s is longer than %d bytes", name, VALUE_MAX);
	for (const char *at = value; *at; at++)
		if (iscntrl((unsigned char)*at))
			return error_set(err, -EINVAL, "%s holds a control character", name);
	return 0;
}

int volume_spec_set(struct volume_spec *spec, const char *name, const char *value,
		    struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		int r;

		if (strcmp(fields[i].name, name) != 0)
			continue;
		if (!*value)
			return 0;
		r = check_text(name, value, err);
		return r < 0 ? r : fields[i].set(spec, value, err);
	}
	return refuse_unknown(name, err);
}

/* --- The key ------------------------------------------------------------------------------------
 */

int volume_spec_set_key(struct volume_spec *spec, const char *text, size_t length,
			struct error *err)
{
	char *key;
	int r;

	r = secret_trim(text, length, "the Secret's key", &key, err);
	if (r < 0)
		return r;
	secret_free(spec->key);
	spec->key = key;
	return 0;
}

int volume_spec_set_secret(struct volume_spec *spec, const char *name, const char *base64,
			   struct error *err)
{
	cleanup_secret char *text = NULL;
	size_t length = 0;
	int r;

	r = base64_decode(base64, &text, &length);
	if (r == -EINVAL)
		return error_set(
			err, r,
			"the Secret's \"%.64s\" is no base64; make it with: echo -n KEY | base64",
			name);
	if (r < 0)
		return error_set(err, r, "out of memory");
	return volume_spec_set_key(spec, text, length, err);
}

/* --- The whole ----------------------------------------------------------------------------------
 */

static int set_default(char **slot, const char *value, struct error *err)
{
	return *slot ? 0 : store(slot, value, err);
}

int volume_spec_finish(struct volume_spec *spec, struct error *err)
{
	int r;

	if (!spec->monitors || !*spec->monitors)
		return error_set(err, -EINVAL,
				 "monitors is missing; name the cluster's monitors, HOST:PORT");
	if (!spec->image)
		return error_set(err, -EINVAL, "image is missing; name the RBD image");
	r = set_default(&spec->pool, VOLUME_POOL_DEFAULT, err);
	if (r == 0)
		r = set_default(&spec->user, VOLUME_USER_DEFAULT, err);
	if (r == 0)
		r = set_default(&spec->keyring, VOLUME_KEYRING_DEFAULT, err);
	return r;
}

char *volume_spec_name(const struct volume_spec *spec)
{
	char *name;

	if (asprintf(&name, "%s/%s%s%s", spec->pool, spec->namespace ? spec->namespace : "",
		     spec->namespace ? "/" : "", spec->image) < 0)
		return NULL;
	return name;
}

char *volume_spec_identity(const struct volume_spec *spec)
{
	cleanup_free char *name = volume_spec_name(spec);
	char *identity;

	if (!name || asprintf(&identity, "%s@%s", name, spec->monitors) < 0)
		return NULL;
	return identity;
}
