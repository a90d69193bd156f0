/* Paths and directories. */
#pragma once

#include <sys/types.h>

#include "common/macros.h"

/* mkdir -p: @path gets @mode if it is made, missing directories above it 0755. 0 or a negative
 * errno. */
int path_make_directories(const char *path, mode_t mode) warn_unused;
