/*
 * The options of librbd that an open image has: those of its client, and before them what the
 * metadata of its pool and its own say. For image/rbd alone; each call asks the cluster.
 */
#pragma once

#include <rbd/librbd.h>

#include "common/error.h"

/* The value of an option, whichever level decides. False: unknown, or it cannot be had. */
bool rbd_effective_option(rbd_image_t image, const char *key, char *value, size_t size);

/*
 * -EEXIST, with a sentence, where the image's or its pool's metadata decides on one of rbd_qos_*.
 * @path is what the sentence calls the image.
 */
int rbd_check_limits(rbd_image_t image, const char *path, struct error *err);
