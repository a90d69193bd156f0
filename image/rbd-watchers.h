/* Who watches an image: whoever has it open for writing. For image/rbd alone. */
#pragma once

#include <rbd/librbd.h>
#include <stddef.h>

#include "common/macros.h"

struct watchers {
	rbd_image_watcher_t *list;
	size_t count;
};

/* All of them, to be freed. 0 or a negative errno. Asks the cluster: a thread that may wait. */
int watchers_list(rbd_image_t image, struct watchers *ret) warn_unused;

void watchers_free(struct watchers *watchers);
