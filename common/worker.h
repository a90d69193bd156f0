/*
 * A thread that looks for work whenever it is woken. Wakes that come together may be one look, but
 * there is always a look that begins after a wake.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/macros.h"

struct worker {
	/* The thread's. False: something is left that cannot be done now; it is called again in
	 * WORKER_PAUSE seconds, or when it is woken. */
	bool (*look)(void *data);
	void *data;

	sem_t due;
	atomic_bool ending;
	pthread_t thread;
};

#define WORKER_PAUSE 2

/* 0, or a negative errno: then there is nothing to stop. */
int worker_start(struct worker *worker, const char *name, bool (*look)(void *data),
		 void *data) warn_unused;

/* Any thread, also a queue's: no lock, no allocation. */
void worker_wake(struct worker *worker);

/* Waits for a look that is going on; there is no other one. */
void worker_stop(struct worker *worker);
