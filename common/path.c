#include "common/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

static int make_directory(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int path_make_directories(const char *path, mode_t mode)
{
	cleanup_free char *partial = strdup(path);

	if (!partial)
		return -ENOMEM;
	for (char *slash = partial; (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
		int r;

		*slash = '\0';
		r = make_directory(partial, 0755);
		if (r < 0)
			return r;
	}
	return make_directory(partial, mode);
}
