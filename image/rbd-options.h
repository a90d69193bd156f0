/*
 * The options of librbd that an open image has: those of its client, and before them what the
 * metadata of its pool and its own say. For image/rbd alone; each call asks the cluster.
 */
#pragma once

#include <rbd/librbd.h>

#include "common/error.h"
#include "core/image.h"

/* What whichever level decides makes of the writes: fills volatile_cache and may_hang of @info. */
void rbd_describe_writes(rbd_image_t image, struct image_info *info);

/*
 * -EEXIST, with a sentence, where the image's or its pool's metadata decides on one of rbd_qos_*.
 * @path is what the sentence calls the image.
 */
int rbd_check_limits(rbd_image_t image, const char *path, struct error *err);
