/* Whether somebody uses a block device. */
#pragma once

#include <stddef.h>

#include "common/error.h"

/*
 * 0 if nobody uses the block device. -EBUSY with a sentence that names the mount point or the
 * process that holds it, if that lasts longer than the probes of udev do; another errno if it
 * cannot be looked at.
 */
int device_check_unused(const char *device, struct error *err) warn_unused;
