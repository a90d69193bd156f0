#include "plugin/records.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "control/client.h"
#include "plugin/directories.h"
#include "plugin/naming.h"

#define IMAGES	   "images"
#define TARGETS	   "targets"
#define RECORD_MAX (64 * 1024)
#define TEMPORARY  ".new"

void image_record_deinit(struct image_record *record)
{
	free(record->identity);
	free(record->name);
	free(record->pool);
	free(record->namespace);
	free(record->image);
	free(record->global);
	free(record->made);
	free(record->device);
	*record = (struct image_record){ 0 };
}

void target_record_deinit(struct target_record *record)
{
	free(record->target);
	free(record->identity);
	free(record->name);
	free(record->made);
	*record = (struct target_record){ 0 };
}

/* --- Files --------------------------------------------------------------------------------------
 */

static int out_of_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}

static char *record_path(const char *directory, const char *kind, const char *key)
{
	char digest[NAMING_DIGITS + 1], *path;

	naming_digest(key, digest);
	return asprintf(&path, "%s/%s/%s.json", directory, kind, digest) < 0 ? NULL : path;
}

static int make_private(const char *directory, const char *kind, struct error *err)
{
	cleanup_free char *path = NULL;

	if (asprintf(&path, "%s/%s", directory, kind) < 0)
		return out_of_memory(err);
	return directories_make(path, 0700, err);
}

int records_open(const char *directory, struct error *err)
{
	struct stat st;
	int r;

	r = make_private(directory, IMAGES, err);
	if (r == 0)
		r = make_private(directory, TARGETS, err);
	if (r < 0)
		return r;
	if (stat(directory, &st) < 0)
		return error_set(err, -errno, "cannot look at %s: %s", directory,
				 errno_text(errno));
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return error_set(err, -EPERM, "%s belongs to others, or others may write to it",
				 directory);
	return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int sync_directory_of(const char *path)
{
	cleanup_free char *directory = strndup(path, (size_t)(strrchr(path, '/') - path));
	cleanup_close int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int replace_file(const char *path, const char *text)
{
	cleanup_free char *temporary = NULL;
	cleanup_close int fd = -1;
	int r;

	if (asprintf(&temporary, "%s" TEMPORARY, path) < 0)
		return -ENOMEM;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r < 0 ? r : sync_directory_of(path);
}

static int save(const char *directory, const char *kind, const char *key, json_t *json,
		struct error *err)
{
	cleanup_free char *path = record_path(directory, kind, key);
	cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	int r;

	json_decref(json);
	r = path && text ? replace_file(path, text) : -ENOMEM;
	return r < 0 ? error_set(err, r, "cannot write the record %s: %s", path ? path : kind,
				 errno_text(r))
		     : 0;
}

static int delete (const char *directory, const char *kind, const char *key, struct error *err)
{
	cleanup_free char *path = record_path(directory, kind, key);
	cleanup_free char *temporary = NULL;

	if (!path || asprintf(&temporary, "%s" TEMPORARY, path) < 0)
		return out_of_memory(err);
	unlink(temporary); /* of a call that died */
	if (unlink(path) < 0 && errno != ENOENT)
		return error_set(err, -errno, "cannot remove the record %s: %s", path,
				 errno_text(errno));
	return 0;
}

/* --- Members ------------------------------------------------------------------------------------
 */

/* json_pack's "s*" leaves out a member whose value is NULL; so does a record in memory. */
static int take_text(const json_t *json, const char *name, char **slot)
{
	const char *text = json_string_value(json_object_get(json, name));

	*slot = text ? strdup(text) : NULL;
	return text && !*slot ? -ENOMEM : 0;
}

struct text_member {
	const char *name;
	size_t offset;
	bool required;
};

static const struct text_member image_members[] = {
	{ "identity", offsetof(struct image_record, identity), true },
	{ "name", offsetof(struct image_record, name), true },
	{ "pool", offsetof(struct image_record, pool), true },
	{ "namespace", offsetof(struct image_record, namespace), false },
	{ "image", offsetof(struct image_record, image), true },
	{ "global", offsetof(struct image_record, global), true },
	{ "made", offsetof(struct image_record, made), false },
	{ "device", offsetof(struct image_record, device), false },
	{ 0 },
};

static const struct text_member target_members[] = {
	{ "target", offsetof(struct target_record, target), true },
	{ "identity", offsetof(struct target_record, identity), true },
	{ "name", offsetof(struct target_record, name), true },
	{ "made", offsetof(struct target_record, made), false },
	{ 0 },
};

static int take_texts(const json_t *json, const struct text_member *members, void *record)
{
	for (; members->name; members++) {
		char **slot = (char **)((char *)record + members->offset);

		if (take_text(json, members->name, slot) < 0)
			return -ENOMEM;
		if (members->required && !*slot)
			return -EINVAL;
	}
	return 0;
}

static json_t *put_texts(const struct text_member *members, const void *record)
{
	json_t *json = json_object();

	for (; json && members->name; members++) {
		const char *text = *(char *const *)((const char *)record + members->offset);

		if (text && json_object_set_new(json, members->name, json_string(text)) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

static bool flag_of(const json_t *json, const char *name)
{
	return json_is_true(json_object_get(json, name));
}

static int put_flag(json_t *json, const char *name, bool value)
{
	return json_object_set_new(json, name, json_boolean(value));
}

/* --- Loading ------------------------------------------------------------------------------------
 */

static int load_json(const char *path, json_t **ret)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > RECORD_MAX)
		return -EFBIG;
	*ret = json_loadfd(fd, 0, NULL);
	return *ret ? 0 : -EINVAL;
}

static int load(const char *path, const struct text_member *members, void *record, json_t **ret,
		struct error *err)
{
	cleanup_json json_t *json = NULL;
	int r;

	r = load_json(path, &json);
	if (r == 0)
		r = take_texts(json, members, record);
	if (r == 0)
		*ret = take_ptr(json);
	return r < 0 ? error_set(err, r, "cannot read the record %s: %s", path, errno_text(r)) : 0;
}

/* Two keys of one digest: nobody meets this by chance. */
static int refuse_collision(const char *path, struct error *err)
{
	return error_set(err, -EEXIST, "the record %s is of something else by the same digest",
			 path);
}

static int load_image(const char *path, struct image_record *ret, struct error *err)
{
	cleanup_json json_t *json = NULL;
	int r;

	r = load(path, image_members, ret, &json, err);
	if (r < 0) {
		image_record_deinit(ret);
		return r;
	}
	ret->read_only = flag_of(json, "read_only");
	ret->foreign = flag_of(json, "foreign");
	return 0;
}

int image_record_load(const char *directory, const char *identity, struct image_record *ret,
		      struct error *err)
{
	cleanup_free char *path = record_path(directory, IMAGES, identity);
	int r;

	if (!path)
		return out_of_memory(err);
	r = load_image(path, ret, err);
	if (r == 0 && strcmp(ret->identity, identity) != 0)
		r = refuse_collision(path, err);
	return r;
}

int target_record_load(const char *directory, const char *target, struct target_record *ret,
		       struct error *err)
{
	cleanup_free char *path = record_path(directory, TARGETS, target);
	cleanup_json json_t *json = NULL;
	int r;

	if (!path)
		return out_of_memory(err);
	r = load(path, target_members, ret, &json, err);
	if (r == 0 && strcmp(ret->target, target) != 0)
		r = refuse_collision(path, err);
	if (r < 0) {
		target_record_deinit(ret);
		return r;
	}
	ret->read_only = flag_of(json, "read_only");
	return 0;
}

/* --- Saving and finding -------------------------------------------------------------------------
 */

int image_record_save(const char *directory, const struct image_record *record, struct error *err)
{
	json_t *json = put_texts(image_members, record);

	if (json && (put_flag(json, "read_only", record->read_only) < 0 ||
		     put_flag(json, "foreign", record->foreign) < 0)) {
		json_decref(json);
		json = NULL;
	}
	return save(directory, IMAGES, record->identity, json, err);
}

int target_record_save(const char *directory, const struct target_record *record, struct error *err)
{
	json_t *json = put_texts(target_members, record);

	if (json && put_flag(json, "read_only", record->read_only) < 0) {
		json_decref(json);
		json = NULL;
	}
	return save(directory, TARGETS, record->target, json, err);
}

int image_record_remove(const char *directory, const char *identity, struct error *err)
{
	return delete (directory, IMAGES, identity, err);
}

int target_record_remove(const char *directory, const char *target, struct error *err)
{
	return delete (directory, TARGETS, target, err);
}

static void cleanup_dir_fn(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

/* 1: @name is a record, it matches and is in *ret. 0: not. */
static int match_file(const char *directory, const char *name,
		      bool (*match)(const struct image_record *record, const void *data),
		      const void *data, struct image_record *ret)
{
	cleanup_image_record struct image_record record = { 0 };
	cleanup_free char *path = NULL;
	const char *dot = strrchr(name, '.');
	struct error ignored;

	if (!dot || strcmp(dot, ".json") != 0)
		return 0;
	if (asprintf(&path, "%s/" IMAGES "/%s", directory, name) < 0)
		return 0;
	if (load_image(path, &record, &ignored) < 0 || !match(&record, data))
		return 0;
	*ret = record;
	record = (struct image_record){ 0 };
	return 1;
}

int image_record_find(const char *directory,
		      bool (*match)(const struct image_record *record, const void *data),
		      const void *data, struct image_record *ret, struct error *err)
{
	cleanup_free char *path = NULL;
	cleanup(cleanup_dir_fn) DIR *open_directory = NULL;
	struct dirent *entry;

	if (asprintf(&path, "%s/" IMAGES, directory) < 0)
		return out_of_memory(err);
	open_directory = opendir(path);
	while (open_directory && (entry = readdir(open_directory)) != NULL)
		if (match_file(directory, entry->d_name, match, data, ret))
			return 0;
	return error_set(err, -ENOENT, "no record of it");
}
