#include "daemon/mounts.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/log.h"

/* The tags in a line of mountinfo, see proc(5): ID PARENT MAJOR:MINOR ROOT PLACE OPTIONS [TAG...] -
 * ... NULL: it is not about the place "/". */
static const char *tags_of_root(const char *line)
{
	int before = 0;

	sscanf(line, "%*s %*s %*s %*s / %*s%n", &before);
	return before ? line + before : NULL;
}

/* What was mounted at / last is what counts. */
static bool root_is_shared(void)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	bool shared = false;
	const char *tags;
	size_t size = 0;

	while (file && getline(&line, &size, file) >= 0) {
		tags = tags_of_root(line);
		if (tags)
			shared = strstr(tags, " shared:") != NULL;
	}
	if (file)
		fclose(file);
	return shared;
}

void mounts_leave(void)
{
	if (!root_is_shared())
		return;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		log_warning("Cannot have a mount namespace of its own: %s.", errno_text(errno));
}
