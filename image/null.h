/*
 * An image without storage, for benchmarks and tests: reads as zeroes, forgets what is written,
 * completes every request on its home thread before image_submit() returns.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/image.h"

/* @size in bytes, a multiple of 512 and not 0. 0, or -EINVAL or -ENOMEM with a sentence. Any
 * thread. */
int null_image_open(uint64_t size, bool read_only, struct image **ret, struct error *err);
