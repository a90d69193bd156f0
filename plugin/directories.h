/* Directories on the way to a mount point: made where they are missing, removed only by who made
 * them. */
#pragma once

#include <sys/types.h>

#include "common/error.h"

/* The first component of an absolute, canonical path that does not exist yet; *ret is NULL where
 * all of it does, else the caller frees it. -ENOTDIR: something on the way is no directory. */
int directories_missing(const char *path, char **ret, struct error *err) warn_unused;

/* mkdir -p. */
int directories_make(const char *path, mode_t mode, struct error *err) warn_unused;

/*
 * Removes @path and what lies above it, up to @made, as far as it is empty. @made NULL: nothing.
 * What is not empty or not there is no error.
 */
void directories_remove(const char *path, const char *made);
