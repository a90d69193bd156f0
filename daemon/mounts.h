/* The mount namespace of the daemon. */
#pragma once

/*
 * At start, while there is one thread: into a mount namespace of its own, where the mounts of the
 * one that it leaves come and go as there. So nothing that it does can get a mount of its devices
 * in the way of who unmounts it. Where mounts would not follow (/ is not shared, as in a
 * container), it stays: its copies would hold what others unmount.
 */
void mounts_leave(void);
