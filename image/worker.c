#include "image/worker.h"

void worker_init(struct worker *worker)
{
	*worker = (struct worker){ 0 };
	worker->end = &worker->oldest;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->wake, NULL);
}

/* With the lock held. The next one, or NULL when it is time to end. */
static struct work *wait_for_work(struct worker *worker)
{
	struct work *work;

	while (!worker->oldest && !worker->stop)
		pthread_cond_wait(&worker->wake, &worker->lock);
	work = worker->oldest;
	if (!work)
		return NULL;
	worker->oldest = work->next;
	if (!worker->oldest)
		worker->end = &worker->oldest;
	return work;
}

static void *worker_main(void *data)
{
	struct worker *worker = data;
	struct work *work;

	pthread_mutex_lock(&worker->lock);
	while ((work = wait_for_work(worker))) {
		pthread_mutex_unlock(&worker->lock);
		work->run(work);
		pthread_mutex_lock(&worker->lock);
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

/* With the lock held. */
static int start(struct worker *worker)
{
	int r;

	if (worker->started)
		return 0;
	r = -pthread_create(&worker->thread, NULL, worker_main, worker);
	if (r < 0)
		return r;
	pthread_setname_np(worker->thread, "urbd-image");
	worker->started = true;
	return 0;
}

int worker_post(struct worker *worker, struct work *work)
{
	int r;

	pthread_mutex_lock(&worker->lock);
	r = start(worker);
	if (r == 0) {
		work->next = NULL;
		*worker->end = work;
		worker->end = &work->next;
		pthread_cond_signal(&worker->wake);
	}
	pthread_mutex_unlock(&worker->lock);
	return r;
}

void worker_deinit(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->stop = true;
	pthread_cond_signal(&worker->wake);
	pthread_mutex_unlock(&worker->lock);
	if (worker->started)
		pthread_join(worker->thread, NULL);
	pthread_cond_destroy(&worker->wake);
	pthread_mutex_destroy(&worker->lock);
}
