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
	/* NULL, or the job's: of the jobs of one name one is out, also after its caller has left.
	 * So what never comes back costs one thread, however often it is tried. */
	const char *name;

	/* Set by bounded_run(). */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool finished, left;
	bool waited;	   /* another job of its name was out for a second; for run() */
	struct turn *turn; /* of its name; NULL where it has none */
};

/*
 * Waits @seconds at most, for the turn of its name and for run(). 0: run() has returned, the job is
 * the caller's. -ETIMEDOUT: the job is the caller's no more, but its thread's. -EALREADY: another
 * job of its name is out yet; this one never ran, and abandoned() has been called. Any other
 * negative errno: no thread could be had, the job is the caller's.
 */
int bounded_run(struct bounded *job, unsigned seconds);
