#include "common/sweeper.h"

#include "common/deadline.h"

static void wait_pause(struct sweeper *sweeper)
{
	const struct timespec end = deadline_in(SWEEPER_PAUSE);

	while (sem_clockwait(&sweeper->due, CLOCK_MONOTONIC, &end) < 0 && !deadline_passed(&end))
		;
}

static void wait_wake(struct sweeper *sweeper)
{
	while (sem_wait(&sweeper->due) < 0)
		;
}

static void *sweeper_main(void *data)
{
	struct sweeper *sweeper = data;
	bool done = true;

	for (;;) {
		if (done)
			wait_wake(sweeper);
		else
			wait_pause(sweeper);
		if (atomic_load(&sweeper->ending))
			return NULL;
		done = sweeper->sweep(sweeper->data);
	}
}

int sweeper_start(struct sweeper *sweeper, const char *name, bool (*sweep)(void *data), void *data)
{
	int r;

	sweeper->sweep = sweep;
	sweeper->data = data;
	atomic_store(&sweeper->ending, false);
	sem_init(&sweeper->due, 0, 0);
	r = -pthread_create(&sweeper->thread, NULL, sweeper_main, sweeper);
	if (r < 0)
		sem_destroy(&sweeper->due);
	else
		pthread_setname_np(sweeper->thread, name);
	return r;
}

void sweeper_wake(struct sweeper *sweeper)
{
	sem_post(&sweeper->due);
}

void sweeper_stop(struct sweeper *sweeper)
{
	atomic_store(&sweeper->ending, true);
	sweeper_wake(sweeper);
	pthread_join(sweeper->thread, NULL);
	sem_destroy(&sweeper->due);
}
