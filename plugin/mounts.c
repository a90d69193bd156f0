#include "plugin/mounts.h"

#include <errno.h>
#include <libmount.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"

#define MOUNTINFO     "/proc/self/mountinfo"
#define BUSY_RETRIES  8
#define BUSY_DELAY_MS 150

static void cleanup_table_fn(struct libmnt_table **table)
{
	mnt_unref_table(*table);
}

static void cleanup_iterator_fn(struct libmnt_iter **iterator)
{
	mnt_free_iter(*iterator);
}

static void cleanup_context_fn(struct libmnt_context **context)
{
	mnt_free_context(*context);
}

#define cleanup_table	 cleanup(cleanup_table_fn)
#define cleanup_iterator cleanup(cleanup_iterator_fn)
#define cleanup_context	 cleanup(cleanup_context_fn)

void mount_state_deinit(struct mount_state *state)
{
	free(state->source);
	free(state->flags);
	*state = (struct mount_state){ 0 };
}

static int read_table(struct libmnt_table **ret, struct error *err)
{
	struct libmnt_table *table = mnt_new_table_from_file(MOUNTINFO);

	if (!table)
		return error_set(err, -EIO, "cannot read " MOUNTINFO);
	*ret = table;
	return 0;
}

/* --- Looking ------------------------------------------------------------------------------------
 */

/* The later line of two with one target lies above. Compared as text: stat may fail or hang there.
 */
static struct libmnt_fs *find_uppermost(struct libmnt_table *table, const char *path)
{
	cleanup_iterator struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_BACKWARD);
	struct libmnt_fs *fs;

	while (iterator && mnt_table_next_fs(table, iterator, &fs) == 0) {
		const char *target = mnt_fs_get_target(fs);

		if (target && strcmp(target, path) == 0)
			return fs;
	}
	return NULL;
}

/* kubelet's list of what a mount answers whose server is gone (mount-utils, IsCorruptedMnt) */
static bool answers_as_corrupt(const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0)
		return false;
	return errno == ENOTCONN || errno == ESTALE || errno == EIO || errno == EACCES ||
	       errno == EHOSTDOWN || errno == EWOULDBLOCK || errno == ENODEV || errno == ESHUTDOWN;
}

/* The flags but ro and rw, which the caller decides on. */
static char *other_flags(const char *options)
{
	char *flags = strdup(options ? options : "");

	if (flags && (mnt_optstr_remove_option(&flags, "ro") < 0 ||
		      mnt_optstr_remove_option(&flags, "rw") < 0))
		return flags;
	return flags ? flags : strdup("");
}

int mount_look(const char *path, struct mount_state *ret, struct error *err)
{
	cleanup_table struct libmnt_table *table = NULL;
	struct libmnt_fs *fs;
	int r;

	r = read_table(&table, err);
	if (r < 0)
		return r;
	mount_state_deinit(ret);
	fs = find_uppermost(table, path);
	if (!fs)
		return 0;
	ret->mounted = true;
	ret->corrupt = answers_as_corrupt(path);
	ret->device = mnt_fs_get_devno(fs);
	ret->read_only = mnt_optstr_get_option(mnt_fs_get_vfs_options(fs), "ro", NULL, NULL) == 0;
	ret->source = strdup(mnt_fs_get_source(fs) ? mnt_fs_get_source(fs) : "");
	ret->flags = other_flags(mnt_fs_get_vfs_options(fs));
	return ret->source && ret->flags ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/*
 * By number, because a device that died while it was mounted may have a successor of the same name.
 * By name for file systems with a number of their own (major 0: btrfs), and where no node is left.
 */
static bool source_is(dev_t number, const char *source, const char *device)
{
	struct stat st;

	if (stat(device, &st) == 0 && S_ISBLK(st.st_mode) && major(number) != 0)
		return st.st_rdev == number;
	return source && strcmp(source, device) == 0;
}

bool mount_is_of(const struct mount_state *state, const char *device)
{
	return state->mounted && device && source_is(state->device, state->source, device);
}

static bool is_of(struct libmnt_fs *fs, const char *device)
{
	return source_is(mnt_fs_get_devno(fs), mnt_fs_get_source(fs), device);
}

/* --- Counting -----------------------------------------------------------------------------------
 */

static struct libmnt_fs *find_parent(struct libmnt_table *table, struct libmnt_fs *child)
{
	cleanup_iterator struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;

	while (iterator && mnt_table_next_fs(table, iterator, &fs) == 0)
		if (mnt_fs_get_id(fs) == mnt_fs_get_parent_id(child) && fs != child)
			return fs;
	return NULL;
}

static const char *below(const char *path, const char *above)
{
	size_t length = strcmp(above, "/") == 0 ? 0 : strlen(above);

	return strncmp(path, above, length) == 0 ? path + length : path;
}

/* The directory that is mounted upon: its file system's number and its path within that. */
static char *place_of(struct libmnt_table *table, struct libmnt_fs *fs)
{
	struct libmnt_fs *parent = find_parent(table, fs);
	const char *target = mnt_fs_get_target(fs), *root;
	char *place;

	if (!parent)
		return strdup(target);
	root = mnt_fs_get_root(parent);
	if (asprintf(&place, "%llu:%s%s", (unsigned long long)mnt_fs_get_devno(parent),
		     root && strcmp(root, "/") != 0 ? root : "",
		     below(target, mnt_fs_get_target(parent))) < 0)
		return NULL;
	return place;
}

static bool has_place(struct libmnt_table *table, struct libmnt_fs *fs, const char *place)
{
	cleanup_free char *own = place_of(table, fs);

	return own && strcmp(own, place) == 0;
}

/* Whether @fs stands at the place of one that counts already or is excepted. */
static bool is_repetition(struct libmnt_table *table, struct libmnt_fs *fs, const char *device,
			  const char *const except[])
{
	cleanup_iterator struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	cleanup_free char *place = place_of(table, fs);
	struct libmnt_fs *other;
	bool before = true;

	while (place && iterator && mnt_table_next_fs(table, iterator, &other) == 0) {
		bool counts = before && other != fs;

		before = counts;
		for (size_t i = 0; except[i] && !counts; i++)
			counts = strcmp(mnt_fs_get_target(other), except[i]) == 0;
		if (counts && is_of(other, device) && has_place(table, other, place))
			return true;
	}
	return false;
}

int mount_count(const char *device, const char *const except[], size_t *ret, char **ret_first,
		struct error *err)
{
	cleanup_iterator struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	cleanup_table struct libmnt_table *table = NULL;
	cleanup_free char *first = NULL;
	struct libmnt_fs *fs;
	size_t count = 0;
	int r;

	r = iterator ? read_table(&table, err) : error_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	while (mnt_table_next_fs(table, iterator, &fs) == 0) {
		if (!is_of(fs, device) || is_repetition(table, fs, device, except))
			continue;
		count++;
		if (!first)
			first = strdup(mnt_fs_get_target(fs));
	}
	*ret = count;
	if (ret_first)
		*ret_first = take_ptr(first);
	return 0;
}

int mount_find(const char *device, const char *part, char **ret, struct error *err)
{
	cleanup_iterator struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	cleanup_table struct libmnt_table *table = NULL;
	struct libmnt_fs *fs;
	int r;

	r = iterator ? read_table(&table, err) : error_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	*ret = NULL;
	while (mnt_table_next_fs(table, iterator, &fs) == 0) {
		if (!is_of(fs, device) || !strstr(mnt_fs_get_target(fs), part))
			continue;
		*ret = strdup(mnt_fs_get_target(fs));
		return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* --- Mounting -----------------------------------------------------------------------------------
 */

static struct libmnt_context *new_context(const char *source, const char *target, const char *type,
					  const char *options)
{
	struct libmnt_context *context = mnt_new_context();

	if (context && (mnt_context_disable_canonicalize(context, 1) < 0 ||
			(source && mnt_context_set_source(context, source) < 0) ||
			mnt_context_set_target(context, target) < 0 ||
			(type && mnt_context_set_fstype(context, type) < 0) ||
			(options && mnt_context_set_options(context, options) < 0))) {
		mnt_free_context(context);
		return NULL;
	}
	return context;
}

/* The errno of a failed context call: the system call's, or libmount's own. */
static int context_errno(struct libmnt_context *context, int r)
{
	if (mnt_context_syscall_called(context) && mnt_context_get_syscall_errno(context) > 0)
		return -mnt_context_get_syscall_errno(context);
	return r < 0 && r > -4096 ? r : -EINVAL;
}

static int do_mount(const char *source, const char *target, const char *type, const char *options,
		    struct error *err)
{
	cleanup_context struct libmnt_context *context = new_context(source, target, type, options);
	int r;

	if (!context)
		return error_set(err, -ENOMEM, "out of memory");
	r = mnt_context_mount(context);
	if (r == 0)
		return 0;
	r = context_errno(context, r);
	return error_set(err, r, "cannot mount %s on %s: %s", source ? source : "again", target,
			 errno_text(r));
}

static const char *mount_advice(int code, bool read_only)
{
	if (code == -ENODEV)
		return "; this kernel lacks that file system";
	if (code == -EROFS && read_only)
		return "; its journal holds writes that a read-only mount may not replay: another "
		       "node has it mounted, or did not unmount it. Mount it once read-write";
	if (code == -EINVAL)
		return "; look at mountOptions, and at the kernel's log (dmesg)";
	return "; the kernel's log may say more (dmesg)";
}

int mount_filesystem(const char *device, const char *path, const char *type, const char *options,
		     bool read_only, struct error *err)
{
	cleanup_free char *all = NULL;
	struct error why;
	int r;

	if (asprintf(&all, "%s%s%s", read_only ? "ro" : "rw", options ? "," : "",
		     options ? options : "") < 0)
		return error_set(err, -ENOMEM, "out of memory");
	r = do_mount(device, path, type, all, &why);
	return r < 0 ? error_set(err, r, "%s%s", why.text, mount_advice(r, read_only)) : 0;
}

int mount_make_read_only(const char *path, struct error *err)
{
	cleanup_mount_state struct mount_state state = { 0 };
	cleanup_free char *options = NULL;
	int r;

	r = mount_look(path, &state, err);
	if (r < 0)
		return r;
	if (asprintf(&options, "remount,bind,ro%s%s", *state.flags ? "," : "", state.flags) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return do_mount(NULL, path, NULL, options, err);
}

int mount_bind(const char *from, const char *to, bool read_only, struct error *err)
{
	int r;

	r = do_mount(from, to, NULL, "bind", err);
	return r == 0 && read_only ? mount_make_read_only(to, err) : r;
}

/* --- Unmounting ---------------------------------------------------------------------------------
 */

int mount_remove(const char *path, struct timespec deadline, struct error *err)
{
	for (int try = 0;; try++) {
		cleanup_mount_state struct mount_state state = { 0 };
		int r;

		/* Not through libmount, whose look-ups may hang or fail on a corrupt mount. */
		if (umount2(path, UMOUNT_NOFOLLOW) == 0)
			return 0;
		r = -errno;
		if (mount_look(path, &state, err) == 0 && !state.mounted)
			return 0;
		if (r == -EBUSY && try < BUSY_RETRIES && !deadline_passed(&deadline)) {
			poll(NULL, 0, BUSY_DELAY_MS);
			continue;
		}
		return error_set(err, r, "cannot unmount %s: %s%s", path, errno_text(r),
				 r == -EBUSY ? "; a process still uses it (fuser -m shows which)"
					     : "");
	}
}
