#include "common/bounded.h"

#include <errno.h>

#include "common/deadline.h"

static void forget(struct bounded *job)
{
	pthread_cond_destroy(&job->wake);
	pthread_mutex_destroy(&job->lock);
}

static void *bounded_main(void *data)
{
	struct bounded *job = data;
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
	return NULL;
}

static void prepare(struct bounded *job)
{
	job->finished = job->left = false;
	pthread_mutex_init(&job->lock, NULL);
	deadline_condition(&job->wake);
}

/* False when the deadline came first; the job is its thread's then. */
static bool wait_finished(struct bounded *job, unsigned seconds)
{
	struct timespec deadline = deadline_in(seconds);
	int r = 0;

	pthread_mutex_lock(&job->lock);
	while (!job->finished && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&job->wake, &job->lock, &deadline);
	if (job->finished)
		r = 0;
	else
		job->left = true;
	pthread_mutex_unlock(&job->lock);
	return r == 0;
}

int bounded_run(struct bounded *job, unsigned seconds)
{
	pthread_t thread;
	int r;

	prepare(job);
	r = -pthread_create(&thread, NULL, bounded_main, job);
	if (r < 0) {
		forget(job);
		return r;
	}
	pthread_setname_np(thread, "urbd-bounded");
	if (!wait_finished(job, seconds)) {
		pthread_detach(thread);
		return -ETIMEDOUT;
	}
	pthread_join(thread, NULL);
	forget(job);
	return 0;
}
