/* The checks, as lists that end in an entry without a name. */
#pragma once

#include "tests/conformance/harness.h"

/* The contract of core/image.h, for an image that can be written. */
extern const struct check image_checks[];
extern const struct check mix_checks[];	  /* many requests at once */
extern const struct check fault_checks[]; /* what image/fault does to an image that remembers */
