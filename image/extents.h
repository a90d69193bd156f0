/*
 * Filling the answer of a REQUEST_EXTENTS, on the one thread that works on it. Allocates nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/request.h"

/* Appends a run of @length bytes, or lengthens the last one of the same kind. False: no room, the
 * answer ends here. */
bool extents_add(struct extents *extents, uint64_t length, bool data);
