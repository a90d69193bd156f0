#include "daemon/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <sys/resource.h>

#include "common/log.h"
#include "common/macros.h"

/* A device of its own connection to a cluster of some size takes about as many. */
#define ROOM 64

void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("Cannot raise the limit of file descriptors: %s.", errno_text(errno));
}

/* 0 where /proc cannot tell. */
static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

int descriptors_check(struct error *err)
{
	struct rlimit limit;
	unsigned used = open_descriptors();

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || used + ROOM <= limit.rlim_cur)
		return 0;
	return error_set(
		err, -EMFILE,
		"urbdd uses %u of its %llu file descriptors: raise its limit (LimitNOFILE= "
		"of its unit), and start it again.",
		used, (unsigned long long)limit.rlim_cur);
}
