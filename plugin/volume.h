/*
 * The volume workflow that all of the plugin's programs share:
 *
 *   stage      urbdd maps the image; a blank one gets a file system, another one is checked; it is
 *              mounted at its global directory
 *   publish    the global mount is bound into a pod's directory
 *   unpublish  the bind is taken away
 *   unstage    the global mount, the device and what was made for them are taken away
 *
 * Each is idempotent, and takes what is true from the kernel and from urbdd; the records only say
 * what was begun (records.h). So whatever a call that died has left, the next one heals: it
 * finishes it or takes it away. A volume that nobody is published from any more is unstaged:
 * references are counted by mount, under the image's lock.
 *
 * One call at a time in a process.
 */
#pragma once

#include "common/deadline.h"
#include "common/error.h"
#include "plugin/records.h"
#include "plugin/spec.h"

#define VOLUME_DIRECTORY_DEFAULT "/run/urbd/volumes"

struct volume_call {
	const char *directory;	  /* the records' and locks'; root's alone */
	const char *socket;	  /* urbdd's; NULL: the usual one */
	struct timespec deadline; /* for getting on; nothing new is begun after it */
	struct timespec undo;	  /* for taking back what was begun; later than deadline */
	void (*tell)(const char *step,
		     void *data); /* what is being done, for people; may be NULL */
	void *tell_data;
	struct error note; /* something worth telling although all is well; text "" without */

	int lock_fd;	    /* internal: the image's lock while it is held, else -1 */
	bool surely_absent; /* internal: urbdd has no device of this volume */
};

/* --- The whole, as a pod needs it ---------------------------------------------------------------
 */

/* Stages at @global and publishes at @target. On failure what this call began is undone. */
int volume_mount(struct volume_call *call, const struct volume_spec *spec, const char *global,
		 const char *target, struct error *err) warn_unused;

/* Unpublishes, and unstages when nobody else is published. Not published is no error. */
int volume_unmount(struct volume_call *call, const char *target, struct error *err) warn_unused;

/* --- The parts; the caller holds the image's lock -----------------------------------------------
 */

/* *ret: the image's record, which may name another global directory than the one asked for. */
int volume_stage(struct volume_call *call, const struct volume_spec *spec, const char *global,
		 struct image_record *ret, struct error *err) warn_unused;

int volume_unstage(struct volume_call *call, const struct image_record *image,
		   struct error *err) warn_unused;

/* Mounts of the image's device other than the global one. *ret_first: see mount_count(). */
int volume_users(const struct image_record *image, size_t *ret, char **ret_first,
		 struct error *err) warn_unused;

int volume_publish(struct volume_call *call, const struct image_record *image, const char *target,
		   bool read_only, struct error *err) warn_unused;

/*
 * Says, before anything is done for it, which image @target is to hold, so that unmounting @target
 * finds what a call that died has begun. volume_publish() does it as well.
 */
int volume_record_target(struct volume_call *call, const char *identity, const char *name,
			 const char *target, bool read_only, struct error *err) warn_unused;

/* @record: NULL where it was lost; then only the uppermost mount goes, and no directory. */
int volume_unpublish(struct volume_call *call, const char *target,
		     const struct target_record *record, struct error *err) warn_unused;

/* Says what is begun now; -ETIMEDOUT where it is too late to begin anything. */
int volume_step(struct volume_call *call, struct error *err, const char *fmt, ...)
	printf_like(3, 4);
