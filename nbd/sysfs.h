/* What sysfs tells about the kernel's NBD devices. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/macros.h"

/* True when /dev/nbdN is connected, or was, and is still held open. */
bool nbd_sysfs_connected(int number);

/* The task that connected it; 0 when it is not connected. */
int nbd_sysfs_pid(int number);

/* The identifier given at connect; false where there is none (kernels before 5.14). */
bool nbd_sysfs_identifier(int number, char *text, size_t size);

/* A number of the device's request queue, for example "write_zeroes_max_bytes"; -1 if unknown. */
long long nbd_sysfs_limit(int number, const char *name);

/*
 * Sets one, where it is another. The kernel waits with that for all requests in flight, so a child
 * does it, for @seconds at most. 0, or a negative errno as from command_run(). Blocks.
 */
int nbd_sysfs_set_limit(int number, const char *name, unsigned value, unsigned seconds) warn_unused;
