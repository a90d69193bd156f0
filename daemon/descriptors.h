/* File descriptors, of which every device takes some. */
#pragma once

#include "common/error.h"

/* At start: as many descriptors as the process may have. */
void descriptors_raise(void);

/* Whether there is room for one more device; -EMFILE with a sentence otherwise. Any thread. */
int descriptors_check(struct error *err) warn_unused;
