/* Reading the partition table of a device that this process serves. */
#pragma once

#include "common/macros.h"

/*
 * Has the kernel add the partitions of @device, if there are any, within @seconds. The reads are a
 * child's (see common/command.h). Any thread but a queue's; blocks.
 *
 * 0, also where there is no table or no program to read it; -ETIMEDOUT when the device does not
 * answer in time.
 */
int partitions_read(const char *device, unsigned seconds) warn_unused;
