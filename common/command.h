/*
 * Running another program for what may block in the kernel until our own devices are served.
 *
 * A thread of the daemon that waits so cannot be killed, and keeps the descriptors of the whole
 * process open: the kernel would never see the daemon's death, and wait for ever for the next one.
 * A child has none of them; it just waits until the device is served again.
 */
#pragma once

#include "common/macros.h"

/*
 * Runs argv[0], a path or else looked for in the system's directories, without input, output or
 * environment, and waits for it up to @seconds. Any thread but a queue's; blocks.
 *
 * Its exit status, >= 0. -EIO: it ended by a signal. -ENOENT: there is no such program. -ETIMEDOUT:
 * it was killed with its children, and they end when the kernel lets them. Or another negative
 * errno.
 */
int command_status(const char *const argv[], unsigned seconds) warn_unused;

/* The same where only success matters: 0, or -EIO for any other exit status. */
int command_run(const char *const argv[], unsigned seconds) warn_unused;

/*
 * The same for what must be undone unless it ends well: then runs @undo, up to @seconds as well.
 * One that was killed may go on until the kernel lets it end: @undo runs once more after that.
 */
int command_run_or_undo(const char *const argv[], const char *const undo[],
			unsigned seconds) warn_unused;
