#include "common/worker.h"

#include "common/deadline.h"

static void wait_pause(struct worker *worker)
{
	const struct timespec end = deadline_in(WORKER_PAUSE);

	while (sem_clockwait(&worker->due, CLOCK_MONOTONIC, &end) < 0 && !deadline_passed(&end))
		;
}

static void wait_wake(struct worker *worker)
{
	while (sem_wait(&worker->due) < 0)
		;
}

static void *worker_main(void *data)
{
	struct worker *worker = data;
	bool done = true;

	for (;;) {
		if (done)
			wait_wake(worker);
		else
			wait_pause(worker);
		if (atomic_load(&worker->ending))
			return NULL;
		done = worker->look(worker->data);
	}
}

int worker_start(struct worker *worker, const char *name, bool (*look)(void *data), void *data)
{
	int r;

	worker->look = look;
	worker->data = data;
	atomic_store(&worker->ending, false);
	sem_init(&worker->due, 0, 0);
	r = -pthread_create(&worker->thread, NULL, worker_main, worker);
	if (r < 0)
		sem_destroy(&worker->due);
	else
		pthread_setname_np(worker->thread, name);
	return r;
}

void worker_wake(struct worker *worker)
{
	sem_post(&worker->due);
}

void worker_stop(struct worker *worker)
{
	atomic_store(&worker->ending, true);
	worker_wake(worker);
	pthread_join(worker->thread, NULL);
	sem_destroy(&worker->due);
}
