#include "plugin/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "plugin/naming.h"

#define POLL_MS 20

static char *lock_path(const char *directory, const char *name)
{
	char digest[NAMING_DIGITS + 1], *path;

	naming_digest(name, digest);
	return asprintf(&path, "%s/%s.lock", directory, digest) < 0 ? NULL : path;
}

/* Whether the file that we locked is still the one at @path: its last holder may have removed it.
 */
static bool is_current(int fd, const char *path)
{
	struct stat ours, theirs;

	return fstat(fd, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino &&
	       ours.st_dev == theirs.st_dev;
}

static int try_lock(const char *path, int *ret)
{
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (!is_current(fd, path))
		return -EWOULDBLOCK;
	*ret = take_fd(&fd);
	return 0;
}

int lock_take(const char *directory, const char *name, struct timespec deadline, int *ret,
	      struct error *err)
{
	cleanup_free char *path = lock_path(directory, name);
	int r;

	if (!path)
		return error_set(err, -ENOMEM, "out of memory");
	for (;;) {
		r = try_lock(path, ret);
		if (r == 0)
			return 0;
		if (r != -EWOULDBLOCK && r != -EINTR)
			return error_set(err, r, "cannot lock %s: %s", path, errno_text(r));
		if (deadline_passed(&deadline))
			return error_set(err, -ETIMEDOUT,
					 "another call is still at work on %s; it is tried again",
					 name);
		poll(NULL, 0, POLL_MS);
	}
}

void lock_remove(const char *directory, const char *name)
{
	cleanup_free char *path = lock_path(directory, name);

	if (path)
		unlink(path);
}
