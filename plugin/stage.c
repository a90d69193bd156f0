#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "plugin/daemon.h"
#include "plugin/directories.h"
#include "plugin/format.h"
#include "plugin/mounts.h"
#include "plugin/volume.h"

#define DIRECTORY_MODE 0750
#define STACKED_MAX    16 /* mounts above each other that are taken away */

/* --- The record ---------------------------------------------------------------------------------
 */

static int out_of_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int new_record(const struct volume_spec *spec, const char *global,
		      struct image_record *record, struct error *err)
{
	record->identity = volume_spec_identity(spec);
	record->name = volume_spec_name(spec);
	record->pool = copy(spec->pool);
	record->namespace = copy(spec->namespace);
	record->image = copy(spec->image);
	record->global = copy(global);
	record->read_only = spec->read_only;
	if (!record->identity || !record->name || !record->pool || !record->image ||
	    !record->global || (spec->namespace && !record->namespace))
		return out_of_memory(err);
	return directories_missing(global, &record->made, err);
}

/*
 * Whether an image of that name, of whichever cluster, has a device already. It must be known
 * before the map: a device that is found under the name after a map that failed may be ours only if
 * there was none before.
 */
static int is_listed(struct volume_call *call, const struct image_record *image, bool *ret,
		     struct error *err)
{
	const struct daemon_image names = { image->pool, image->namespace, image->image };
	cleanup_free char *device = NULL;
	int r;

	r = daemon_device_of(call->socket, &names, call->deadline, &device, err);
	if (r < 0 && r != -ENXIO && r != -ENOTUNIQ)
		return r;
	*ret = r != -ENXIO;
	return 0;
}

/* *ret_fresh: nobody had begun to stage this image. */
static int open_record(struct volume_call *call, const struct volume_spec *spec, const char *global,
		       struct image_record *record, bool *ret_fresh, struct error *err)
{
	cleanup_free char *identity = volume_spec_identity(spec);
	int r;

	if (!identity)
		return out_of_memory(err);
	r = image_record_load(call->directory, identity, record, err);
	*ret_fresh = r == -ENOENT;
	if (r != -ENOENT)
		return r;
	r = new_record(spec, global, record, err);
	if (r == 0)
		r = is_listed(call, record, &record->foreign, err);
	return r < 0 ? r : image_record_save(call->directory, record, err);
}

/* Before it is mapped, an image has no users. */
int volume_users(const struct image_record *image, size_t *ret, char **ret_first, struct error *err)
{
	const char *const except[] = { image->global, NULL };

	*ret = 0;
	return image->device ? mount_count(image->device, except, ret, ret_first, err) : 0;
}

/* An image that is staged read-only turns writable only while nobody uses it. */
static int adapt_access(struct volume_call *call, const struct volume_spec *spec,
			const char *global, struct image_record *record, bool *fresh,
			struct error *err)
{
	cleanup_free char *user = NULL;
	size_t users;
	int r;

	if (!record->read_only || spec->read_only)
		return 0;
	r = volume_users(record, &users, &user, err);
	if (r < 0)
		return r;
	if (users)
		return error_set(
			err, -EBUSY,
			"%s is in use read-only on this node (%s), so it cannot be mounted "
			"read-write; stop that pod, or say readOnly: true",
			record->name, user ? user : "?");
	r = volume_unstage(call, record, err);
	if (r < 0)
		return r;
	image_record_deinit(record);
	return open_record(call, spec, global, record, fresh, err);
}

/* --- Mapping ------------------------------------------------------------------------------------
 */

static bool record_has_device(const struct image_record *record, const void *device)
{
	return record->device && strcmp(record->device, device) == 0;
}

/*
 * One image, named by other monitors of the same cluster: urbdd knows, and answers the device that
 * is there. The volume then goes on under the record that has it.
 */
static int join_other(struct volume_call *call, struct image_record *record, const char *device,
		      bool *ret_joined, struct error *err)
{
	cleanup_image_record struct image_record other = { 0 };
	struct error ignored;
	int r;

	*ret_joined = false;
	if (image_record_find(call->directory, record_has_device, device, &other, &ignored) < 0 ||
	    strcmp(other.identity, record->identity) == 0 || strcmp(other.name, record->name) != 0)
		return 0;
	r = image_record_remove(call->directory, record->identity, err);
	if (r < 0)
		return r;
	directories_remove(record->global, record->made);
	image_record_deinit(record);
	*record = other;
	other = (struct image_record){ 0 };
	*ret_joined = true;
	return 0;
}

static int keep_device(struct volume_call *call, struct image_record *record, const char *device,
		       bool foreign, struct error *err)
{
	char *name;

	if (record_has_device(record, device) && record->foreign == foreign)
		return 0;
	name = strdup(device);
	if (!name)
		return out_of_memory(err);
	free(record->device);
	record->device = name;
	record->foreign = foreign;
	return image_record_save(call->directory, record, err);
}

/* Whether urbdd said no, rather than nothing. */
static bool is_refusal(int code)
{
	return code != -ETIMEDOUT && code != -ECONNRESET && code != -EPROTO;
}

/* The mount of the device that the record names, and that urbdd replaced meanwhile. */
static int drop_stale_mount(struct volume_call *call, const struct image_record *record,
			    const char *device, struct error *err)
{
	cleanup_mount_state struct mount_state state = { 0 };
	cleanup_free char *user = NULL;
	size_t users;
	int r;

	r = mount_look(record->global, &state, err);
	if (r < 0 || !state.mounted || (mount_is_of(&state, device) && !state.corrupt))
		return r;
	if (!state.corrupt && !(record->device && mount_is_of(&state, record->device)))
		return error_set(err, -EBUSY,
				 "%s is a mount point of %s, which is not this volume; unmount it",
				 record->global, state.source);
	r = volume_users(record, &users, &user, err);
	if (r == 0 && users)
		return error_set(err, -EIO,
				 "the device of %s was lost while %s uses it; stop the pods with "
				 "this volume, then they can start anew",
				 record->name, user ? user : "?");
	return r < 0 ? r : mount_remove(record->global, call->deadline, err);
}

static int map(struct volume_call *call, const struct volume_spec *spec,
	       struct image_record *record, bool fresh, struct error *err)
{
	cleanup_daemon_device struct daemon_device device = { 0 };
	bool joined = false, foreign;
	int r;

	r = volume_step(call, err, "mapping %s", record->name);
	if (r < 0)
		return r;
	r = daemon_map(call->socket, spec, record->read_only, call->deadline, &device, err);
	if (r < 0) {
		call->surely_absent = fresh && is_refusal(r);
		return r;
	}
	if (fresh && device.existing)
		r = join_other(call, record, device.device, &joined, err);
	/* A device that a call before this one may have mapped is as that call's record says. */
	foreign = device.existing && ((fresh && !joined) || record->foreign);
	if (r == 0)
		r = drop_stale_mount(call, record, device.device, err);
	if (r == 0)
		r = keep_device(call, record, device.device, foreign, err);
	if (r == 0 && device.read_only && !spec->read_only)
		r = error_set(err, -EROFS, "%s is mapped read-only at %s; unmap it first",
			      record->name, device.device);
	return r;
}

/* --- Mounting -----------------------------------------------------------------------------------
 */

static int is_mounted_anywhere(const char *device, bool *ret, struct error *err)
{
	static const char *const nothing[] = { NULL };
	size_t count;
	int r;

	r = mount_count(device, nothing, &count, NULL, err);
	if (r == 0)
		*ret = count > 0;
	return r;
}

static int prepare(struct volume_call *call, const struct volume_spec *spec,
		   const struct image_record *record, char type[32], struct error *err)
{
	struct format_request request = {
		.device = record->device,
		.fs_type = spec->fs_type,
		.read_only = record->read_only,
		.deadline = call->deadline,
		.lock_fd = call->lock_fd,
	};
	int r;

	r = is_mounted_anywhere(record->device, &request.mounted, err);
	if (r == 0)
		r = volume_step(call, err, "looking at %s, and making a file system or checking it",
				record->device);
	return r < 0 ? r : format_prepare(&request, type, &call->note, err);
}

static int mount_global(struct volume_call *call, const struct volume_spec *spec,
			const struct image_record *record, struct error *err)
{
	cleanup_mount_state struct mount_state state = { 0 };
	char type[32];
	int r;

	r = mount_look(record->global, &state, err);
	if (r < 0 || state.mounted)
		return r;
	r = prepare(call, spec, record, type, err);
	if (r == 0)
		r = volume_step(call, err, "mounting %s at %s", record->device, record->global);
	if (r == 0)
		r = directories_make(record->global, DIRECTORY_MODE, err);
	if (r == 0)
		r = mount_filesystem(record->device, record->global, type, spec->mount_options,
				     record->read_only, err);
	return r;
}

int volume_stage(struct volume_call *call, const struct volume_spec *spec, const char *global,
		 struct image_record *ret, struct error *err)
{
	cleanup_image_record struct image_record record = { 0 };
	bool fresh;
	int r;

	r = open_record(call, spec, global, &record, &fresh, err);
	if (r == 0)
		r = adapt_access(call, spec, global, &record, &fresh, err);
	if (r == 0)
		r = map(call, spec, &record, fresh, err);
	if (r == 0)
		r = mount_global(call, spec, &record, err);
	if (r < 0)
		return r;
	*ret = record;
	record = (struct image_record){ 0 };
	return 0;
}

/* --- Unstaging ----------------------------------------------------------------------------------
 */

static int unmount_global(struct volume_call *call, const struct image_record *image,
			  struct error *err)
{
	for (int i = 0; i < STACKED_MAX; i++) {
		cleanup_mount_state struct mount_state state = { 0 };
		int r;

		r = mount_look(image->global, &state, err);
		if (r < 0 || !state.mounted)
			return r;
		if (!state.corrupt && !mount_is_of(&state, image->device))
			return error_set(err, -EBUSY,
					 "%s is a mount point of %s, which is not this volume; "
					 "unmount it",
					 image->global, state.source);
		r = mount_remove(image->global, call->undo, err);
		if (r < 0)
			return r;
	}
	return error_set(err, -ELOOP, "%s has too many mounts above each other", image->global);
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/* The record's device may have been given to another image since, when urbdd was started anew. */
static int unmap_recorded(struct volume_call *call, const struct image_record *image,
			  struct error *err)
{
	cleanup_daemon_image struct daemon_image found = { 0 };
	int r;

	r = daemon_image_of(call->socket, image->device, call->undo, &found, err);
	if (r < 0)
		return r == -ENXIO ? 0 : r;
	if (!same_text(found.pool, image->pool) || !same_text(found.image, image->image) ||
	    !same_text(found.namespace, image->namespace))
		return 0;
	return daemon_unmap(call->socket, image->device, call->undo, err);
}

/*
 * A call died, or urbdd did not answer, between map and the record of the device. No image of that
 * name had a device before the map (else the record is foreign), so what is mapped under the name
 * now is ours, unless somebody uses it or another record has it.
 */
static int unmap_unrecorded(struct volume_call *call, const struct image_record *image,
			    struct error *err)
{
	const struct daemon_image names = { image->pool, image->namespace, image->image };
	cleanup_image_record struct image_record other = { 0 };
	cleanup_free char *device = NULL;
	struct error ignored;
	int r;

	r = daemon_device_of(call->socket, &names, call->undo, &device, err);
	if (r < 0)
		return r == -ENOTUNIQ || r == -ENXIO ? 0 : r;
	if (image_record_find(call->directory, record_has_device, device, &other, &ignored) == 0)
		return 0;
	r = daemon_unmap(call->socket, device, call->undo, err);
	return r == -EBUSY ? 0 : r;
}

int volume_unstage(struct volume_call *call, const struct image_record *image, struct error *err)
{
	int r = 0;

	if (image->device)
		r = unmount_global(call, image, err);
	if (r == 0 && !image->foreign && !(call->surely_absent && !image->device))
		r = image->device ? unmap_recorded(call, image, err)
				  : unmap_unrecorded(call, image, err);
	if (r < 0)
		return r;
	directories_remove(image->global, image->made);
	return image_record_remove(call->directory, image->identity, err);
}
