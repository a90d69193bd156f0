/* Filling the answer of a REQUEST_EXTENTS. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/request.h"

/* Appends a run, or lengthens the last one of the same kind. False: no room, the answer ends here.
 */
bool extents_add(struct extents *extents, uint64_t length, bool data);
