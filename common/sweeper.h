/*
 * A thread that goes through all that there is whenever it is woken, and does what is due. Wakes
 * that come together may be one sweep, but there is always a sweep that begins after a wake.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/macros.h"

struct sweeper {
	/* The thread's. False: something is left that cannot be done now; it is called again in
	 * SWEEPER_PAUSE seconds, or when it is woken. */
	bool (*sweep)(void *data);
	void *data;

	sem_t due;
	atomic_bool ending;
	pthread_t thread;
};

#define SWEEPER_PAUSE 2

/* 0, or a negative errno: then there is nothing to stop. */
int sweeper_start(struct sweeper *sweeper, const char *name, bool (*sweep)(void *data),
		  void *data) warn_unused;

/* Any thread, also a queue's: no lock, no allocation. */
void sweeper_wake(struct sweeper *sweeper);

/* Waits for a sweep that is going on; there is no other one. */
void sweeper_stop(struct sweeper *sweeper);
