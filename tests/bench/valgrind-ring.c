/*
 * A preloaded library that lets valgrind run urbdd: valgrind 3.19 takes io_uring_enter for a system
 * call that never blocks, and keeps all other threads waiting meanwhile. This waits in poll(2),
 * which sees no deferred task work, so rings that have it are refused.
 */
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
			       struct io_uring_params *params)
{
	typeof(io_uring_queue_init_params) *real = dlsym(RTLD_NEXT, "io_uring_queue_init_params");

	return params->flags & IORING_SETUP_DEFER_TASKRUN ? -EINVAL : real(entries, ring, params);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
	struct pollfd ready = { .fd = ring->ring_fd, .events = POLLIN };
	int submitted = io_uring_submit(ring);

	while (submitted >= 0 && io_uring_cq_ready(ring) < wait_nr)
		if (poll(&ready, 1, -1) < 0 && errno != EINTR)
			return -errno;
	return submitted;
}
