#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/directories.h"
#include "plugin/mounts.h"
#include "plugin/volume.h"

#define DIRECTORY_MODE 0750
#define STACKED_MAX    16 /* mounts above each other that are taken away */

/* --- Publishing ---------------------------------------------------------------------------------
 */

static int new_record(const char *identity, const char *name, const char *target, bool read_only,
		      struct target_record *record, struct error *err)
{
	record->target = strdup(target);
	record->identity = strdup(identity);
	record->name = strdup(name);
	record->read_only = read_only;
	if (!record->target || !record->identity || !record->name)
		return error_set(err, -ENOMEM, "out of memory");
	return directories_missing(target, &record->made, err);
}

/* A record of a call that died keeps what it says of directories. */
int volume_record_target(struct volume_call *call, const char *identity, const char *name,
			 const char *target, bool read_only, struct error *err)
{
	cleanup_target_record struct target_record old = { 0 }, record = { 0 };
	int r;

	r = target_record_load(call->directory, target, &old, err);
	if (r < 0 && r != -ENOENT)
		return r;
	r = new_record(identity, name, target, read_only, &record, err);
	if (r < 0)
		return r;
	if (old.made) {
		free(record.made);
		record.made = take_ptr(old.made);
	}
	return target_record_save(call->directory, &record, err);
}

static int write_record(struct volume_call *call, const struct image_record *image,
			const char *target, bool read_only, struct error *err)
{
	return volume_record_target(call, image->identity, image->name, target, read_only, err);
}

/* What is mounted at the target already: the very volume, or not. */
static int check_present(struct volume_call *call, const struct image_record *image,
			 const char *target, bool read_only, const struct mount_state *state,
			 struct error *err)
{
	cleanup_target_record struct target_record old = { 0 };
	int r;

	if (!mount_is_of(state, image->device))
		return error_set(err, -EBUSY,
				 "%s is a mount point of %s already, which is not %s; unmount it",
				 target, state->source, image->name);
	r = target_record_load(call->directory, target, &old, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 ? old.read_only != read_only : state->read_only && !read_only)
		return error_set(err, -EEXIST,
				 "%s is mounted at %s read-%s already; unmount it first",
				 image->name, target, read_only ? "write" : "only");
	r = write_record(call, image, target, read_only, err);
	return r == 0 && read_only && !state->read_only ? mount_make_read_only(target, err) : r;
}

static int bind_new(struct volume_call *call, const struct image_record *image, const char *target,
		    bool read_only, struct error *err)
{
	int r;

	r = volume_step(call, err, "mounting %s at %s", image->global, target);
	if (r == 0)
		r = write_record(call, image, target, read_only, err);
	if (r == 0)
		r = directories_make(target, DIRECTORY_MODE, err);
	return r < 0 ? r : mount_bind(image->global, target, read_only, err);
}

int volume_publish(struct volume_call *call, const struct image_record *image, const char *target,
		   bool read_only, struct error *err)
{
	cleanup_mount_state struct mount_state state = { 0 };
	int r;

	r = mount_look(target, &state, err);
	if (r == 0 && state.corrupt) {
		r = mount_remove(target, call->deadline, err);
		if (r == 0)
			r = mount_look(target, &state, err);
	}
	if (r < 0)
		return r;
	if (state.mounted)
		return check_present(call, image, target, read_only, &state, err);
	return bind_new(call, image, target, read_only, err);
}

/* --- Unpublishing -------------------------------------------------------------------------------
 */

int volume_unpublish(struct volume_call *call, const char *target,
		     const struct target_record *record, struct error *err)
{
	for (int i = 0; i < STACKED_MAX; i++) {
		cleanup_mount_state struct mount_state state = { 0 };
		int r;

		r = mount_look(target, &state, err);
		if (r < 0)
			return r;
		if (!state.mounted) {
			directories_remove(target, record ? record->made : NULL);
			return 0;
		}
		r = mount_remove(target, call->undo, err);
		if (r < 0 || !record)
			return r;
	}
	return error_set(err, -ELOOP, "%s has too many mounts above each other", target);
}
