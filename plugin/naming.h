/*
 * Names that the plugin derives: of records, directories and pods. All are functions of their
 * arguments alone, so that a later call, of any process, finds them again.
 */
#pragma once

#include "common/error.h"
#include "common/macros.h"

#define NAMING_DIGITS 32

/*
 * A 128-bit digest in hex. It spreads names well but resists nobody who wants two to meet: whoever
 * looks something up by it compares the full text that is stored there.
 */
void naming_digest(const char *text, char ret[NAMING_DIGITS + 1]);

/* A digest in the form of a UUID (version 8, "custom"). */
char *naming_uuid(const char *text) warn_unused;

/*
 * @path absolute, without "." and "..", and without symbolic links in that part of it that exists;
 * the last component stays as it is, so that a symbolic link there is not followed. NULL: no
 * memory.
 */
char *naming_canonical(const char *path) warn_unused;
