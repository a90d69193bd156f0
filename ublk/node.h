/*
 * Device nodes under /dev. devtmpfs makes them with the device; where /dev is something else (a
 * container's tmpfs), this makes them, and takes them away again.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

struct ublk_node {
	char path[32];
	bool made; /* by us */
};

/*
 * Waits until @path is the node of the device that the sysfs file @dev_file ("MAJOR:MINOR") names,
 * and makes it if nobody else does. @type: S_IFCHR or S_IFBLK. 0, or a negative errno with a
 * sentence.
 */
int ublk_node_ensure(const char *path, const char *dev_file, mode_t type, struct ublk_node *ret,
		     struct error *err);

/* Removes the node if ublk_node_ensure() made it; twice does no harm. */
void ublk_node_remove(struct ublk_node *node);
