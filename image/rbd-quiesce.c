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

	pthread_mutex_t lock; /* guards all below */
	enum image_snapshots served;
	bool beginning;	 /* librbd waits for an answer */
	unsigned depth;	 /* snapshots between begin and end; set by the worker */
	unsigned ends;	 /* of these, for the worker to end */
	unsigned ending; /* of these, being ended by it */
	unsigned undone; /* ended before librbd has said so */
	bool stopping;
};

/* The worker. */

static bool is_ended(struct rbd_quiesce *quiesce)
{
	bool ended;

	pthread_mutex_lock(&quiesce->lock);
	ended = quiesce->served == IMAGE_SNAPSHOTS_ENDED;
	pthread_mutex_unlock(&quiesce->lock);
	return ended;
}

/* Unless it has become unwelcome meanwhile. */
static bool deepen(struct rbd_quiesce *quiesce)
{
	bool welcome;

	pthread_mutex_lock(&quiesce->lock);
	welcome = quiesce->served != IMAGE_SNAPSHOTS_ENDED;
	if (welcome)
		quiesce->depth++;
	pthread_mutex_unlock(&quiesce->lock);
	return welcome;
}

static int begin(struct rbd_quiesce *quiesce)
{
	int r;

	if (is_ended(quiesce))
		return -ESHUTDOWN;
	r = quiesce->depth > 0 ? 0 : quiesce->todo.run(quiesce->todo.data, true);
	if (r < 0 || deepen(quiesce))
		return r;
	if (quiesce->depth == 0)
		quiesce->todo.run(quiesce->todo.data, false);
	return -ESHUTDOWN;
}

static void run_begin(struct work *work)
{
	struct rbd_quiesce *quiesce = container_of(work, struct rbd_quiesce, begin_work);
	int r = begin(quiesce);

	pthread_mutex_lock(&quiesce->lock);
	quiesce->beginning = false; /* the next one may come before the call returns */
	pthread_mutex_unlock(&quiesce->lock);
	rbd_quiesce_complete(quiesce->image, quiesce->handle, r);
}

/* Whether it is the last of those that have begun. */
static bool take_ends(struct rbd_quiesce *quiesce)
{
	bool last;

	pthread_mutex_lock(&quiesce->lock);
	quiesce->ending = MIN(quiesce->ends, quiesce->depth);
	quiesce->ends = 0;
	last = quiesce->ending > 0 && quiesce->ending == quiesce->depth;
	pthread_mutex_unlock(&quiesce->lock);
	return last;
}

static void run_end(struct work *work)
{
	struct rbd_quiesce *quiesce = container_of(work, struct rbd_quiesce, end_work);

	if (take_ends(quiesce))
		quiesce->todo.run(quiesce->todo.data, false);
	pthread_mutex_lock(&quiesce->lock);
	quiesce->depth -= quiesce->ending;
	quiesce->ending = 0;
	pthread_mutex_unlock(&quiesce->lock);
}

/* With the lock. */
static void end(struct rbd_quiesce *quiesce, unsigned count)
{
	if (count > 0 && quiesce->ends == 0)
		(void)!worker_post(&quiesce->worker, &quiesce->end_work); /* it is there */
	quiesce->ends += count;
}

/* Threads of librbd. */

/* With the lock. */
static int post_begin(struct rbd_quiesce *quiesce)
{
	int r;

	if (quiesce->stopping || quiesce->served != IMAGE_SNAPSHOTS_SERVED)
		return -ESHUTDOWN;
	r = worker_post(&quiesce->worker, &quiesce->begin_work);
	quiesce->beginning = r == 0;
	return r;
}

static void asked_to_begin(void *data)
{
	struct rbd_quiesce *quiesce = data;
	int r;

	pthread_mutex_lock(&quiesce->lock);
	r = post_begin(quiesce);
	pthread_mutex_unlock(&quiesce->lock);
	if (r < 0)
		rbd_quiesce_complete(quiesce->image, quiesce->handle, r);
}

static void asked_to_end(void *data)
{
	struct rbd_quiesce *quiesce = data;

	pthread_mutex_lock(&quiesce->lock);
	if (quiesce->undone > 0)
		quiesce->undone--;
	else if (!quiesce->stopping)
		end(quiesce, 1);
	pthread_mutex_unlock(&quiesce->lock);
}

/* Any other thread. */

/* With the lock: what is not being ended yet. */
static void end_all(struct rbd_quiesce *quiesce)
{
	unsigned begun = quiesce->depth - quiesce->ending;
	unsigned count = begun - MIN(quiesce->ends, begun);

	quiesce->undone += count;
	end(quiesce, count);
}

bool rbd_quiesce_set(struct rbd_quiesce *quiesce, enum image_snapshots to)
{
	bool idle;

	pthread_mutex_lock(&quiesce->lock);
	if (to == IMAGE_SNAPSHOTS_ENDED && quiesce->served != to)
		end_all(quiesce);
	quiesce->served = to;
	idle = !quiesce->beginning && quiesce->depth == 0;
	pthread_mutex_unlock(&quiesce->lock);
	return idle;
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
