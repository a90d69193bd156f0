/* What the kernel offers of ublk. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct ublk_offer {
	/*
	 * UBLK_F_* that ADD_DEV may be asked for. A kernel older than 6.5 does not tell; it grants
	 * what it knows of what it is asked for, so then these are the ones from before.
	 */
	uint64_t features;
	bool ioctl_encode;
};

/*
 * 0, or a negative errno with a sentence that says what is missing. Loads the driver's module where
 * the driver is absent. Any thread but a queue's, may block up to @deadline seconds a step.
 */
int ublk_probe_offer(unsigned deadline, struct ublk_offer *ret, struct error *err);
