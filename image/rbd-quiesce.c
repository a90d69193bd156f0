/*
 * librbd calls from a thread of its own, which must not wait. It begins no second snapshot before
 * the first one was answered, but does so before the first one is over; and it ends those whose
 * taker has died. After a refusal it does not call again.
 *
 * To give up the watch while librbd waits for an answer is to wait for ever. So before that
 * whatever is asked is refused on the spot, and what was asked before is answered.
 */
#include "image/rbd-quiesce.h"

#include <errno.h>
#include <stdlib.h>

#include "common/macros.h"
#include "image/worker.h"

struct rbd_quiesce {
	rbd_image_t image;
	struct image_quiesce todo;
	uint64_t handle;
	struct worker worker;
	struct work begin_work;
	struct work end_work;
	unsigned depth; /* the worker's: snapshots between begin and end */

	pthread_mutex_t lock; /* guards all below */
	unsigned ends;	      /* asked for and not begun */
	bool stopping;
};

/* The worker. */

static void run_begin(struct work *work)
{
	struct rbd_quiesce *quiesce = container_of(work, struct rbd_quiesce, begin_work);
	int r = quiesce->depth > 0 ? 0 : quiesce->todo.run(quiesce->todo.data, true);

	if (r == 0)
		quiesce->depth++;
	rbd_quiesce_complete(quiesce->image, quiesce->handle, r);
}

static unsigned take_ends(struct rbd_quiesce *quiesce)
{
	unsigned ends;

	pthread_mutex_lock(&quiesce->lock);
	ends = quiesce->ends;
	quiesce->ends = 0;
	pthread_mutex_unlock(&quiesce->lock);
	return ends;
}

static void run_end(struct work *work)
{
	struct rbd_quiesce *quiesce = container_of(work, struct rbd_quiesce, end_work);
	unsigned ends = MIN(take_ends(quiesce), quiesce->depth);

	quiesce->depth -= ends;
	if (ends > 0 && quiesce->depth == 0)
		quiesce->todo.run(quiesce->todo.data, false);
}

/* Threads of librbd. */

static void asked_to_begin(void *data)
{
	struct rbd_quiesce *quiesce = data;
	int r = -ESHUTDOWN;

	pthread_mutex_lock(&quiesce->lock);
	if (!quiesce->stopping)
		r = worker_post(&quiesce->worker, &quiesce->begin_work);
	pthread_mutex_unlock(&quiesce->lock);
	if (r < 0)
		rbd_quiesce_complete(quiesce->image, quiesce->handle, r);
}

static void asked_to_end(void *data)
{
	struct rbd_quiesce *quiesce = data;

	pthread_mutex_lock(&quiesce->lock);
	if (!quiesce->stopping && quiesce->ends++ == 0)
		(void)!worker_post(&quiesce->worker, &quiesce->end_work); /* it is there */
	pthread_mutex_unlock(&quiesce->lock);
}

int rbd_quiesce_start(rbd_image_t image, const struct image_quiesce *todo, struct rbd_quiesce **ret)
{
	struct rbd_quiesce *quiesce = calloc(1, sizeof(*quiesce));
	int r;

	if (!quiesce)
		return -ENOMEM;
	quiesce->image = image;
	quiesce->todo = *todo;
	quiesce->begin_work.run = run_begin;
	quiesce->end_work.run = run_end;
	worker_init(&quiesce->worker);
	pthread_mutex_init(&quiesce->lock, NULL);
	r = rbd_quiesce_watch(image, asked_to_begin, asked_to_end, quiesce, &quiesce->handle);
	if (r < 0) {
		worker_deinit(&quiesce->worker);
		pthread_mutex_destroy(&quiesce->lock);
		free(quiesce);
		return r;
	}
	*ret = quiesce;
	return 0;
}

void rbd_quiesce_stop(struct rbd_quiesce *quiesce)
{
	if (!quiesce)
		return;
	pthread_mutex_lock(&quiesce->lock);
	quiesce->stopping = true;
	pthread_mutex_unlock(&quiesce->lock);
	worker_deinit(&quiesce->worker);
	rbd_quiesce_unwatch(quiesce->image, quiesce->handle);
	if (quiesce->depth > 0)
		quiesce->todo.run(quiesce->todo.data, false);
	quiesce->todo.free(quiesce->todo.data);
	pthread_mutex_destroy(&quiesce->lock);
	free(quiesce);
}
