/*
 * Mounts, through libmount. What the kernel says (mountinfo) is the truth about them: nothing here
 * remembers anything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/error.h"

/* What is mounted on a directory; the uppermost, where several are. */
struct mount_state {
	bool mounted;
	bool corrupt;	/* mounted, and even stat(2) fails on it */
	bool read_only; /* this mount of the file system is */
	char *source;	/* as mountinfo has it, usually the device's path */
	char *flags;	/* nosuid, noatime ...: what a bind mount of it has to repeat */
	dev_t device;
};

void mount_state_deinit(struct mount_state *state);

static inline void cleanup_mount_state_fn(struct mount_state *state)
{
	mount_state_deinit(state);
}

#define cleanup_mount_state cleanup(cleanup_mount_state_fn)

/* @path: canonical (naming_canonical()). A path that does not exist is not mounted. *ret is empty.
 */
int mount_look(const char *path, struct mount_state *ret, struct error *err) warn_unused;

/* Whether what is mounted there is a file system on this block device. */
bool mount_is_of(const struct mount_state *state, const char *device);

/*
 * The directories on which the file system of @device is mounted, but for those in @except (ends
 * with NULL) - each place once: a mount that propagation repeats at another path of the same
 * directory counts as that one. *ret_first: one of them, or NULL; the caller frees it.
 */
int mount_count(const char *device, const char *const except[], size_t *ret, char **ret_first,
		struct error *err) warn_unused;

/* The mount point of @device whose path holds @part; NULL when there is none. The caller frees it.
 */
int mount_find(const char *device, const char *part, char **ret, struct error *err) warn_unused;

/* @options: comma-separated, or NULL. */
int mount_filesystem(const char *device, const char *path, const char *type, const char *options,
		     bool read_only, struct error *err) warn_unused;

int mount_bind(const char *from, const char *to, bool read_only, struct error *err) warn_unused;

/* Makes a bind mount that is there read-only, with the other flags that it has. */
int mount_make_read_only(const char *path, struct error *err) warn_unused;

/* Unmounts the uppermost mount. Not mounted is no error. A busy one is tried again for a while. */
int mount_remove(const char *path, struct timespec deadline, struct error *err) warn_unused;
