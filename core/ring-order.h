/*
 * Tells ThreadSanitizer what it cannot see. liburing maps and unmaps its rings by system calls of
 * its own, so that a new ring, where another thread had one before, looks like memory that both
 * share. The kernel gives no address out again before it was unmapped: whoever ended a ring came
 * before whoever begins one. Nothing in other builds.
 */
#pragma once

#ifdef __SANITIZE_THREAD__
/* Before io_uring_queue_exit(). */
void ring_ends(void);
/* After io_uring_queue_init(). */
void ring_begins(void);
#else
static inline void ring_ends(void)
{
}
static inline void ring_begins(void)
{
}
#endif
