#include "image/lookout.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "common/macros.h"
#include "common/thread.h"

#define LOOK_SECONDS 10

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all of this, and the list's */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct list all = { &all, &all };
static bool running; /* the thread, as long as there is anything to look after */

/* On a thread of librados. */
static void answered(rados_completion_t question, void *data)
{
	struct lookout *lookout = data;

	if (rados_aio_get_return_value(question) == -ENOENT)
		lookout->gone(lookout->data);
	pthread_mutex_lock(&lock);
	lookout->asked = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void forget_question(struct lookout *lookout)
{
	if (lookout->question)
		rados_aio_release(lookout->question);
	lookout->question = NULL;
}

/* With the lock. Where it fails it is done again the next time. */
static void ask(struct lookout *lookout)
{
	rados_read_op_t op;

	if (lookout->asked)
		return;
	forget_question(lookout);
	if (rados_aio_create_completion2(lookout, answered, &lookout->question) < 0) {
		lookout->question = NULL;
		return;
	}
	op = rados_create_read_op();
	rados_read_op_assert_exists(op);
	lookout->asked = rados_aio_read_op_operate(op, lookout->ioctx, lookout->question,
						   lookout->object, 0) == 0;
	rados_release_read_op(op);
}

/* With the lock. */
static void pause_between(void)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += LOOK_SECONDS;
	while (!list_empty(&all) &&
	       pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &end) != ETIMEDOUT)
		;
}

static void *lookout_main(void *data)
{
	pthread_mutex_lock(&lock);
	while (!list_empty(&all)) {
		list_for_each(entry, &all)
			ask(list_entry(entry, struct lookout, entry));
		pause_between();
	}
	running = false;
	pthread_mutex_unlock(&lock);
	return NULL;
}

int lookout_start(struct lookout *lookout)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!running)
		r = thread_detached(lookout_main, NULL);
	if (r == 0) {
		running = true;
		list_append(&all, &lookout->entry);
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/* librados may come to call answered() while it is told that nobody wants to know any more. */
static void withdraw(struct lookout *lookout)
{
	rados_aio_cancel(lookout->ioctx, lookout->question);
	pthread_mutex_lock(&lock);
	while (lookout->asked)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

void lookout_stop(struct lookout *lookout)
{
	bool asked;

	pthread_mutex_lock(&lock);
	list_remove(&lookout->entry);
	asked = lookout->asked;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	if (asked)
		withdraw(lookout);
	forget_question(lookout);
}
