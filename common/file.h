/* Reading of small files. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "common/macros.h"

/* Reads up to @size bytes, to the end of what @fd has. The length, or a negative errno. */
ssize_t file_read(int fd, char *buffer, size_t size) warn_unused;
