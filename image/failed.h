/* An image that may not be served any more: everything that is asked of it fails with EIO. */
#pragma once

#include "common/error.h"
#include "core/image.h"

/* @size is in bytes. 0, or a negative errno with a sentence. */
int failed_image_open(uint64_t size, struct image **ret, struct error *err) warn_unused;
