#include "plugin/volume.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/daemon.h"
#include "plugin/lock.h"
#include "plugin/mounts.h"
#include "plugin/naming.h"

#define GLOBAL_PART "/plugins/kubernetes.io/" /* in the path of each global mount */

int volume_step(struct volume_call *call, struct error *err, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (deadline_passed(&call->deadline))
		return error_set(err, -ETIMEDOUT, "out of time before %s", text);
	if (call->tell)
		call->tell(text, call->tell_data);
	return 0;
}

static int out_of_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}

/*
 * The lock is by pool, namespace and image alone: it must be known also when all that is left of a
 * volume is a device in urbdd's list. Two clusters' images of one name wait for each other.
 */
static int lock_image(struct volume_call *call, const char *name, struct error *err)
{
	return lock_take(call->directory, name, call->deadline, &call->lock_fd, err);
}

/* --- Letting go ---------------------------------------------------------------------------------
 */

static int unstage_if_unused(struct volume_call *call, const struct image_record *image,
			     struct error *err)
{
	size_t users;
	int r;

	r = volume_users(image, &users, NULL, err);
	if (r < 0 || users)
		return r;
	if (call->tell)
		call->tell("unmounting and unmapping the image", call->tell_data);
	return volume_unstage(call, image, err);
}

/* The target first, its record last: a call that dies in between is finished by the next one. */
static int let_go(struct volume_call *call, const char *target, const struct target_record *record,
		  const struct image_record *image, struct error *err)
{
	int r;

	r = volume_unpublish(call, target, record, err);
	if (r == 0 && image)
		r = unstage_if_unused(call, image, err);
	return r < 0 || !record ? r : target_record_remove(call->directory, target, err);
}

static void unlock_image(struct volume_call *call, const char *name, bool left)
{
	if (!left)
		lock_remove(call->directory, name);
	close(take_fd(&call->lock_fd));
}

/* --- Mounting -----------------------------------------------------------------------------------
 */

struct names {
	char *identity, *name; /* of the image; see struct image_record */
	char *global, *target; /* canonical */
};

/* Nothing to do, and urbdd need not even be there. */
static bool is_complete(struct volume_call *call, const struct volume_spec *spec,
			const char *identity, const char *target)
{
	cleanup_mount_state struct mount_state state = { 0 }, global = { 0 };
	cleanup_target_record struct target_record record = { 0 };
	cleanup_image_record struct image_record image = { 0 };
	struct error ignored;

	if (target_record_load(call->directory, target, &record, &ignored) < 0 ||
	    image_record_load(call->directory, identity, &image, &ignored) < 0 ||
	    mount_look(target, &state, &ignored) < 0 ||
	    mount_look(image.global, &global, &ignored) < 0)
		return false;
	return strcmp(record.identity, identity) == 0 && record.read_only == spec->read_only &&
	       image.device && mount_is_of(&state, image.device) && !state.corrupt &&
	       state.read_only >= spec->read_only && mount_is_of(&global, image.device);
}

/*
 * Takes back what this call and dead ones before it began; keeps the first sentence. What was
 * mounted at the target before (@keep) stays: a pod may be using it.
 */
static void undo(struct volume_call *call, const char *identity, const char *target, bool keep,
		 struct error *err)
{
	cleanup_target_record struct target_record record = { 0 };
	cleanup_image_record struct image_record image = { 0 };
	struct error why = ERROR_NONE, first = *err;
	bool has_record, has_image;
	int r = 0;

	has_record = target_record_load(call->directory, target, &record, &why) == 0;
	has_image = image_record_load(call->directory, identity, &image, &why) == 0;
	if (!keep)
		r = let_go(call, target, has_record ? &record : NULL, has_image ? &image : NULL,
			   &why);
	else if (has_image)
		r = unstage_if_unused(call, &image, &why);
	if (r < 0)
		error_set(err, first.code, "%s (Taking back what was done failed, too: %s)",
			  first.text, why.text);
}

static bool is_mounted(const char *path)
{
	cleanup_mount_state struct mount_state state = { 0 };
	struct error ignored;

	return mount_look(path, &state, &ignored) < 0 || state.mounted;
}

static int stage_and_publish(struct volume_call *call, const struct volume_spec *spec,
			     const struct names *names, struct error *err)
{
	cleanup_image_record struct image_record image = { 0 };
	const char *identity = names->identity, *target = names->target;
	bool was_mounted = is_mounted(target);
	int r = 0;

	if (is_complete(call, spec, identity, target))
		return 0;
	if (!was_mounted)
		r = volume_record_target(call, identity, names->name, target, spec->read_only, err);
	if (r < 0)
		return r;
	r = volume_stage(call, spec, names->global, &image, err);
	if (r == 0)
		r = volume_publish(call, &image, target, spec->read_only, err);
	if (r < 0)
		undo(call, image.identity ? image.identity : identity, target, was_mounted, err);
	return r;
}

/* The target is recorded for another image: that call died, or its unmount never came. */
static int clear_target(struct volume_call *call, const char *name, const char *target,
			struct error *err)
{
	cleanup_target_record struct target_record record = { 0 };
	int r;

	r = target_record_load(call->directory, target, &record, err);
	if (r == -ENOENT || (r == 0 && strcmp(record.name, name) == 0))
		return 0;
	if (r < 0)
		return r;
	if (is_mounted(target))
		return error_set(err, -EBUSY, "%s holds %s already; unmount it first", target,
				 record.name);
	return volume_unmount(call, target, err);
}

static bool has_image_record(struct volume_call *call, const char *identity)
{
	cleanup_image_record struct image_record image = { 0 };
	struct error ignored;

	return image_record_load(call->directory, identity, &image, &ignored) != -ENOENT;
}

static int mount_named(struct volume_call *call, const struct volume_spec *spec,
		       const struct names *names, struct error *err)
{
	int r;

	r = records_open(call->directory, err);
	if (r == 0)
		r = clear_target(call, names->name, names->target, err);
	if (r == 0)
		r = lock_image(call, names->name, err);
	if (r < 0)
		return r;
	r = stage_and_publish(call, spec, names, err);
	unlock_image(call, names->name, r == 0 || has_image_record(call, names->identity));
	return r;
}

int volume_mount(struct volume_call *call, const struct volume_spec *spec, const char *global,
		 const char *target, struct error *err)
{
	struct names names = {
		.identity = volume_spec_identity(spec),
		.name = volume_spec_name(spec),
		.global = naming_canonical(global),
		.target = naming_canonical(target),
	};
	int r;

	call->lock_fd = -1;
	call->surely_absent = false;
	if (names.identity && names.name && names.global && names.target)
		r = mount_named(call, spec, &names, err);
	else
		r = out_of_memory(err);
	free(names.identity);
	free(names.name);
	free(names.global);
	free(names.target);
	return r;
}

/* --- Unmounting ---------------------------------------------------------------------------------
 */

static bool record_is_of_mount(const struct image_record *record, const void *state)
{
	return mount_is_of(state, record->device);
}

/* The records are gone: urbdd's list and mountinfo have to tell what is what. */
static int rebuild_image(struct volume_call *call, const struct mount_state *state,
			 struct image_record *ret, struct error *err)
{
	cleanup_daemon_image struct daemon_image image = { 0 };
	int r;

	r = daemon_image_of(call->socket, state->source, call->deadline, &image, err);
	if (r < 0)
		return r;
	ret->identity = strdup("");
	ret->device = strdup(state->source);
	if (asprintf(&ret->name, "%s/%s%s%s", image.pool, image.namespace ? image.namespace : "",
		     image.namespace ? "/" : "", image.image) < 0)
		ret->name = NULL;
	if (!ret->identity || !ret->device || !ret->name)
		return out_of_memory(err);
	ret->pool = take_ptr(image.pool);
	ret->namespace = take_ptr(image.namespace);
	ret->image = take_ptr(image.image);
	r = mount_find(ret->device, GLOBAL_PART, &ret->global, err);
	if (r == 0 && !ret->global)
		ret->global = strdup("/nonexistent");
	if (r == 0 && ret->global)
		ret->made = strdup(ret->global);
	return r;
}

/* Whose mount is this, when the target has no record? */
static int find_owner(struct volume_call *call, const char *target, const struct mount_state *state,
		      struct image_record *ret, struct error *err)
{
	struct error why;
	int r;

	r = image_record_find(call->directory, record_is_of_mount, state, ret, &why);
	if (r == 0)
		return 0;
	r = rebuild_image(call, state, ret, &why);
	if (r == 0)
		return 0;
	image_record_deinit(ret);
	return error_set(err, r, "%s is a mount point of %s, which was left alone: %s", target,
			 state->source, why.text);
}

static int unmount_unrecorded(struct volume_call *call, const char *target, struct error *err)
{
	cleanup_mount_state struct mount_state state = { 0 };
	cleanup_image_record struct image_record image = { 0 };
	int r;

	r = mount_look(target, &state, err);
	if (r < 0 || !state.mounted)
		return r;
	r = find_owner(call, target, &state, &image, err);
	if (r == 0)
		r = lock_image(call, image.name, err);
	if (r < 0)
		return r;
	r = let_go(call, target, NULL, &image, err);
	unlock_image(call, image.name, r < 0 || has_image_record(call, image.identity));
	return r;
}

static int unmount_recorded(struct volume_call *call, const char *target,
			    const struct target_record *found, struct error *err)
{
	cleanup_target_record struct target_record record = { 0 };
	cleanup_image_record struct image_record image = { 0 };
	int r, has_image;

	r = lock_image(call, found->name, err);
	if (r < 0)
		return r;
	r = target_record_load(call->directory, target, &record, err);
	if (r == 0) {
		has_image = image_record_load(call->directory, record.identity, &image, err);
		r = has_image < 0 && has_image != -ENOENT ? has_image : 0;
		if (r == 0)
			r = let_go(call, target, &record, has_image == 0 ? &image : NULL, err);
	} else if (r == -ENOENT) {
		r = 0; /* another call did it meanwhile */
	}
	unlock_image(call, found->name, r < 0 || has_image_record(call, found->identity));
	return r;
}

int volume_unmount(struct volume_call *call, const char *target, struct error *err)
{
	cleanup_target_record struct target_record record = { 0 };
	cleanup_free char *path = naming_canonical(target);
	int r;

	call->lock_fd = -1;
	call->surely_absent = false;
	if (!path)
		return out_of_memory(err);
	r = records_open(call->directory, err);
	if (r < 0)
		return r;
	r = target_record_load(call->directory, path, &record, err);
	if (r == 0)
		return unmount_recorded(call, path, &record, err);
	return r == -ENOENT ? unmount_unrecorded(call, path, err) : r;
}
