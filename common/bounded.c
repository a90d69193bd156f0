#include "common/bounded.h"

#include <errno.h>

#include "common/deadline.h"
#include "common/turn.h"

static void forget(struct bounded *job)
{
	pthread_cond_destroy(&job->wake);
	pthread_mutex_destroy(&job->lock);
}

static void *bounded_main(void *data)
{
	struct bounded *job = data;
	struct turn *turn = job->turn;
	bool left;

	job->run(job);
	pthread_mutex_lock(&job->lock);
	job->finished = true;
	left = job->left;
	pthread_cond_signal(&job->wake);
	pthread_mutex_unlock(&job->lock);
	if (left) {
		forget(job);
		job->abandoned(job);
	}
	turn_end(turn);
	return NULL;
}

static void prepare(struct bounded *job)
{
	job->finished = job->left = false;
	pthread_mutex_init(&job->lock, NULL);
	deadline_condition(&job->wake);
}

/* False when the deadline came first; the job is its thread's then. */
static bool wait_finished(struct bounded *job, const struct timespec *deadline)
{
	int r = 0;

	pthread_mutex_lock(&job->lock);
	while (!job->finished && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&job->wake, &job->lock, deadline);
	if (job->finished)
		r = 0;
	else
		job->left = true;
	pthread_mutex_unlock(&job->lock);
	return r == 0;
}

/* With its turn, which ends with the thread. */
static int run_until(struct bounded *job, const struct timespec *deadline)
{
	pthread_t thread;
	int r;

	prepare(job);
	r = -pthread_create(&thread, NULL, bounded_main, job);
	if (r < 0) {
		turn_end(job->turn);
		forget(job);
		return r;
	}
	pthread_setname_np(thread, "urbd-bounded");
	if (!wait_finished(job, deadline)) {
		pthread_detach(thread);
		return -ETIMEDOUT;
	}
	pthread_join(thread, NULL);
	forget(job);
	return 0;
}

/* Calls that merely meet end soon. -EALREADY: see bounded_run(). */
static int take_turn(struct bounded *job, const struct timespec *deadline)
{
	struct timespec soon = deadline_in(1);
	int r = turn_take(job->name, deadline, &job->turn);

	job->waited = deadline_passed(&soon);
	return r == -ETIMEDOUT ? -EALREADY : r;
}

int bounded_run(struct bounded *job, unsigned seconds)
{
	struct timespec deadline = deadline_in(seconds);
	int r = 0;

	job->turn = NULL;
	if (job->name)
		r = take_turn(job, &deadline);
	if (r == 0)
		return run_until(job, &deadline);
	if (r == -EALREADY)
		job->abandoned(job);
	return r;
}
