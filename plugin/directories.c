#include "plugin/directories.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

#define RACES_MAX 5 /* times that another call may remove what we just made a way into */

static int check_directory(const char *path, struct error *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? -ENOENT
				       : error_set(err, -errno, "cannot look at %s: %s", path,
						   errno_text(errno));
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "%s is not a directory; move it away", path);
	return 0;
}

int directories_missing(const char *path, char **ret, struct error *err)
{
	cleanup_free char *partial = strdup(path);
	char *slash = partial;
	int r = 0;

	while (slash && r == 0) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		r = check_directory(partial, err);
		if (slash && r == 0)
			*slash = '/';
	}
	if (!partial)
		return error_set(err, -ENOMEM, "out of memory");
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = r == -ENOENT ? take_ptr(partial) : NULL;
	return 0;
}

static int make_all(char *partial, mode_t mode)
{
	for (char *slash = partial; slash; *slash = '/') {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		if (mkdir(partial, mode) < 0 && errno != EEXIST)
			return -errno;
		if (!slash)
			break;
	}
	return 0;
}

int directories_make(const char *path, mode_t mode, struct error *err)
{
	int r = -ENOMEM;

	for (int try = 0; try < RACES_MAX; try++) {
		cleanup_free char *partial = strdup(path);

		r = partial ? make_all(partial, mode) : -ENOMEM;
		if (r != -ENOENT)
			break;
	}
	return r < 0 ? error_set(err, r, "cannot make the directory %s: %s", path, errno_text(r))
		     : check_directory(path, err);
}

void directories_remove(const char *path, const char *made)
{
	cleanup_free char *partial = strdup(path);

	if (!made || !partial)
		return;
	while (strlen(partial) >= strlen(made) && (rmdir(partial) == 0 || errno == ENOENT)) {
		char *slash = strrchr(partial, '/');

		if (slash == partial)
			return;
		*slash = '\0';
	}
}
