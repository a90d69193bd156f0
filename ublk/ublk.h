/*
 * The ublk frontend: the kernel's block device /dev/ublkbN, served through io_uring.
 *
 * Needs CAP_SYS_ADMIN. What a kernel can is asked of it (GET_FEATURES, and the flags that ADD_DEV
 * grants), never derived from its version. The flags for recovery are set from the start, so that a
 * device outlives the daemon: I/O waits meanwhile.
 *
 * stop() without force first waits until the image has answered all that was in flight when it was
 * called; if that takes longer than the deadline it returns -ETIMEDOUT, and the device goes on as
 * if nothing had happened. Data that was written through the page cache and not yet synced is the
 * caller's care: the kernel drops it when the device goes.
 */
#pragma once

#include "core/frontend.h"

extern const struct frontend_ops ublk_frontend;
