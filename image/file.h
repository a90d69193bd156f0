/*
 * An image in a regular file or a block device, through the io_uring of the request's home queue.
 *
 * Direct I/O where the file system takes it at the image's block size, else through the page cache;
 * either way a completed write is stable only after a flush or with FUA (info.volatile_cache).
 */
#pragma once

#include <stdbool.h>

#include "core/image.h"

/*
 * Opens what is at @path and locks it: one writer, or any number of readers. Its size must be a
 * multiple of 512 bytes. 0, or a negative errno with a sentence. Any thread but a queue's.
 */
int file_image_open(const char *path, bool read_only, struct image **ret, struct error *err);

/*
 * The identity that an image opened at @path would have, into the IMAGE_IDENTITY_MAX bytes of @ret;
 * "" where there is no such file. Opens nothing. Any thread.
 */
void file_image_identity(const char *path, char *ret);
