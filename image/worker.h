/*
 * A thread for the few things that would block a queue or a thread of librbd: looking up extents,
 * asking for its header. It starts with the first of them, so an image that is never asked costs no
 * thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "core/inbox.h"

struct worker {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	struct work *oldest, **end;
	bool started, stop;
	pthread_t thread;
};

void worker_init(struct worker *worker);

/* Finishes what waits, and ends the thread. No worker_post() may follow. */
void worker_deinit(struct worker *worker);

/*
 * Any thread: runs @work on the worker, after what was posted before. 0, or the negative errno with
 * which no thread could be had.
 */
int worker_post(struct worker *worker, struct work *work);
