/*
 * A queue: a worker thread with its io_uring and its inbox. It serves any number of devices.
 *
 * The thread turns: run what the inbox holds, handle the completions, run the hooks for the end of
 * the turn, then one io_uring_enter that submits all of it and sleeps only if the inbox is still
 * empty (and where busy polling is on, only after that). So when hooks run, the kernel has begun
 * with every entry of earlier turns, and what completed there and then has been delivered. Only the
 * thread itself touches the ring
 * (IORING_SETUP_SINGLE_ISSUER; and ublk takes a commit only from the task that fetched the tag), so
 * everything that says "queue thread" below must be called there.
 */
#pragma once

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "common/macros.h"
#include "core/inbox.h"

struct queue;

/* What a submission entry's user data points to. It must stay in place until complete() was called.
 */
struct ring_op {
	/* Queue thread. @result is the CQE's res (bytes or negative errno), @flags its
	 * IORING_CQE_F_*. */
	void (*complete)(struct ring_op *op, int result, uint32_t flags);
};

/*
 * A callback at the end of the turn in which it was asked for; asked for twice it runs once. What a
 * hook asks for, and is not due yet, comes with the next turn, which then begins without a sleep.
 */
struct turn_hook {
	struct list entry; /* list_init() it once, before first use */
	void (*run)(struct turn_hook *hook);
};

/* Makes the thread and its ring. @name (copied) shows in ps; @index is returned by queue_index().
 */
int queue_create(const char *name, unsigned index, struct queue **ret) warn_unused;

/* Ends the thread and frees it. No request or ring_op may be outstanding. NULL is allowed. */
void queue_destroy(struct queue *queue);

unsigned queue_index(const struct queue *queue);

/* One more than the highest index that a queue was ever created with. Any thread. */
unsigned queue_index_limit(void);

/* Queue thread: when its turn began (a reading of clock_now()): what the turn handles was there by
 * then. Costs nothing. */
uint64_t queue_turn_began(const struct queue *queue);

/* Queue thread: the number of its turn. */
uint64_t queue_turn(const struct queue *queue);

/* Queue thread, once a request: it is done. */
void queue_finished(void);

/* True on the queue's own thread. */
bool queue_is_current(const struct queue *queue);

/*
 * Any thread: how many microseconds at most the thread looks for more work before it sleeps, where
 * that pays (see core/busy-poll.h). 0, which is what it begins with: it sleeps at once.
 */
void queue_set_busy_poll(struct queue *queue, unsigned microseconds);

/* The thread's id, for protocols that name the server's task. */
int queue_tid(const struct queue *queue);

/* Any thread, never blocks: runs @work on the queue thread, in the order of the calls of one
 * thread. */
void queue_post(struct queue *queue, struct work *work);

/* Any other thread: runs fn(data) on the queue thread, waits for it, returns its result. */
int queue_call(struct queue *queue, int (*fn)(void *data), void *data);

/*
 * Queue thread: a blank entry whose completion goes to @op. Submits what is pending when the ring
 * is full, so it always returns one. Fill it with io_uring_prep_*, then set the user data through
 * queue_sqe_bind() (the prep functions clear it).
 */
struct io_uring_sqe *queue_get_sqe(struct queue *queue);

/* Queue thread: submits what is pending now, and not at the end of the turn. */
void queue_submit(struct queue *queue);

/*
 * Queue thread: submits what is pending, and tells whether @op, bound to an entry of a file's own
 * command, waits in the kernel: taken by it and not completed. A yes holds until the caller returns
 * to the turn. Before Linux 6.1, where the kernel completes at any time, the answer is always no.
 */
bool queue_op_waits(struct queue *queue, const struct ring_op *op);

/*
 * Any thread: whether the kernel can do without completions of what succeeds
 * (IOSQE_CQE_SKIP_SUCCESS), and never takes a send that went half way for one that did not begin.
 */
bool queue_can_be_quiet(const struct queue *queue);

static inline void queue_sqe_bind(struct io_uring_sqe *sqe, struct ring_op *op)
{
	io_uring_sqe_set_data(sqe, op);
}

/* Queue thread. */
void queue_at_turn_end(struct queue *queue, struct turn_hook *hook);
