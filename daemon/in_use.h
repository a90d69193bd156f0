/* Whether somebody uses a block device. */
#pragma once

#include <stddef.h>

#include "common/error.h"

/*
 * 0 if nobody uses the block device. -EBUSY with a sentence that names the mount point or the
 * process that holds it, if that lasts longer than the probes of udev do; -ETIMEDOUT if it cannot
 * be opened within @seconds; another errno if it cannot be looked at. Blocks, but never in the
 * kernel for the device.
 */
int device_check_unused(const char *device, unsigned seconds, struct error *err) warn_unused;
