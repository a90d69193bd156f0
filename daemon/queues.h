/* The daemon's queue threads, over which devices spread. */
#pragma once

#include <sched.h>

#include "common/error.h"
#include "core/queue.h"

struct queues {
	unsigned count;
	unsigned next; /* where the next device begins; guarded by the device table's lock */
	struct queue **list;
};

/* Each of them runs on one CPU of @cpus, in turn; on any, where that is empty. */
int queues_start(struct queues *queues, unsigned count, const cpu_set_t *cpus,
		 struct error *err) warn_unused;

/* See queue_set_busy_poll(). */
void queues_busy_poll(struct queues *queues, unsigned microseconds);

/* Every device is gone. Harmless on zeroed memory. */
void queues_stop(struct queues *queues);

/* Fills @ret with @wanted queues, each as little used as the round-robin makes it. */
void queues_pick(struct queues *queues, struct queue **ret, unsigned wanted);
