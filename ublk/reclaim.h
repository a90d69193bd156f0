/*
 * Queues that a recovery which was cut off has left without an owner.
 *
 * START_USER_RECOVERY takes each hardware queue from the server that died; the next one owns it
 * with the last tag that it fetches. Before Linux 6.15 (UBLK_F_QUIESCE, by which it is told, came a
 * version later; there this does no harm) the command counts on an owner of every
 * queue: a device of which no queue has one is refused for good (-EINVAL), and where only some have
 * none the driver follows a null pointer (ublk_ctrl_start_recovery(), ublk_queue_reinit()). Who
 * dies between that command and its last fetch, or gives up there, would leave a device that nobody
 * can ever take back.
 */
#pragma once

#include <stdbool.h>

#include "common/macros.h"

struct ublk_reclaim {
	int char_fd; /* /dev/ublkcN, opened for this alone: to be closed before anything else */
	unsigned nr_queues, depth;
	bool ioctl_encode;
};

/*
 * Gives every queue that has no owner one that is dead, from which START_USER_RECOVERY takes it;
 * the others are as they were. The device must wait for a server, so that no I/O comes. 0 or a
 * negative errno. Any thread but a queue's; blocks for a moment: the kernel cancels what an ended
 * task has fetched (since 6.7; before, a queue without an owner blocks it for good).
 */
int ublk_reclaim(const struct ublk_reclaim *reclaim) warn_unused;
