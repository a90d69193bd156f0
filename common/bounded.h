/*
 * A blocking call with a deadline. It runs on a thread of its own; a caller whose time is up leaves
 * it there, and the thread cleans up when the call comes back.
 *
 * Whatever the call touches must belong to the job, since the caller may be gone by then. Any
 * thread that may block.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

struct bounded {
	void (*run)(struct bounded *job);	/* the blocking call */
	void (*abandoned)(struct bounded *job); /* after run, if the caller left: frees the job */

	/* Set by bounded_run(). */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool finished, left;
};

/*
 * Waits @seconds at most. 0: run() has returned, the job is the caller's. -ETIMEDOUT: the job is
 * its thread's. Any other negative errno: no thread could be had, the job is the caller's.
 */
int bounded_run(struct bounded *job, unsigned seconds);
