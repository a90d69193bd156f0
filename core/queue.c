#include "core/queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "core/busy-poll.h"
#include "core/clock.h"
#include "core/ring-order.h"

#define RING_ENTRIES	 1024
#define RING_COMPLETIONS 8192

struct queue {
	struct io_uring ring;
	struct inbox inbox;
	struct list hooks; /* struct turn_hook, due at the end of this turn */
	struct work again; /* in the inbox when hooks wait for the next turn */
	struct ring_op wake_op;
	int wake_fd; /* eventfd that ends a sleep in the ring */
	unsigned index;
	bool deferred;			       /* the kernel completes in io_uring_enter() alone */
	atomic_uint_least64_t busy_poll_limit; /* ticks */
	struct busy_poll busy_poll;
	unsigned events; /* that this turn has handled */
	uint64_t turn, turn_began;
	int tid;
	bool stop;
	pthread_t thread;
	char name[16];

	/* Set by the thread before it signals `ready`. */
	int start_result;
	pthread_mutex_t lock;
	pthread_cond_t ready;
	bool started;
};

static _Thread_local const struct queue *current;
static _Thread_local unsigned requests_done; /* in this turn; whose end they are does not say */
static atomic_uint index_limit;

unsigned queue_index_limit(void)
{
	return atomic_load(&index_limit);
}

static void raise_index_limit(unsigned limit)
{
	unsigned before = atomic_load(&index_limit);

	while (before < limit && !atomic_compare_exchange_weak(&index_limit, &before, limit))
		;
}

uint64_t queue_turn_began(const struct queue *queue)
{
	return queue->turn_began;
}

uint64_t queue_turn(const struct queue *queue)
{
	return queue->turn;
}

unsigned queue_index(const struct queue *queue)
{
	return queue->index;
}

void queue_set_busy_poll(struct queue *queue, unsigned microseconds)
{
	atomic_store_explicit(&queue->busy_poll_limit, clock_ticks(microseconds * 1000ULL),
			      memory_order_relaxed);
}

void queue_finished(void)
{
	requests_done++;
}

bool queue_is_current(const struct queue *queue)
{
	return current == queue;
}

int queue_tid(const struct queue *queue)
{
	return queue->tid;
}

/* The best set of ring flags that this kernel takes, from 6.1 on down to any. */
static int ring_init(struct queue *queue)
{
	static const unsigned flag_sets[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	struct io_uring *ring = &queue->ring;
	int r = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(flag_sets) && r == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = flag_sets[i] | IORING_SETUP_CQSIZE,
			.cq_entries = RING_COMPLETIONS,
		};

		r = io_uring_queue_init_params(RING_ENTRIES, ring, &params);
		queue->deferred = flag_sets[i] & IORING_SETUP_DEFER_TASKRUN;
	}
	if (r < 0)
		return r;
	ring_begins();
	io_uring_ring_dontfork(ring);
	return 0;
}

/* Kernels before 6.1, where both came, could tell -EAGAIN of a send that had gone half way. */
bool queue_can_be_quiet(const struct queue *queue)
{
	return queue->ring.flags & IORING_SETUP_DEFER_TASKRUN;
}

struct io_uring_sqe *queue_get_sqe(struct queue *queue)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&queue->ring)))
		io_uring_submit(&queue->ring);
	return sqe;
}

void queue_submit(struct queue *queue)
{
	io_uring_submit(&queue->ring);
}

/* Whether the kernel has completed @op, or may have. */
static bool is_completed(struct queue *queue, const struct ring_op *op)
{
	struct io_uring_cqe *cqe;
	unsigned head;

	io_uring_for_each_cqe(&queue->ring, head, cqe)
	{
		if (io_uring_cqe_get_data(cqe) == op)
			return true;
	}
	return io_uring_cq_has_overflow(&queue->ring);
}

bool queue_op_waits(struct queue *queue, const struct ring_op *op)
{
	if (!queue->deferred)
		return false;
	io_uring_submit(&queue->ring);
	return io_uring_sq_ready(&queue->ring) == 0 && !is_completed(queue, op);
}

/* A multishot poll is edge-triggered: each write to the eventfd gives one completion, nobody reads
 * it. */
static void arm_wake(struct queue *queue)
{
	struct io_uring_sqe *sqe = queue_get_sqe(queue);

	io_uring_prep_poll_multishot(sqe, queue->wake_fd, POLLIN);
	queue_sqe_bind(sqe, &queue->wake_op);
}

static void woken(struct ring_op *op, int result, uint32_t flags)
{
	if (!(flags & IORING_CQE_F_MORE))
		arm_wake(container_of(op, struct queue, wake_op));
}

static void wake(struct queue *queue)
{
	eventfd_write(queue->wake_fd, 1);
}

void queue_post(struct queue *queue, struct work *work)
{
	if (inbox_push(&queue->inbox, work))
		wake(queue);
}

void queue_at_turn_end(struct queue *queue, struct turn_hook *hook)
{
	if (list_empty(&hook->entry))
		list_append(&queue->hooks, &hook->entry);
}

static void run_inbox(struct queue *queue)
{
	struct work *work = inbox_take_all(&queue->inbox);

	while (work) {
		struct work *next = work->next;

		work->run(work);
		queue->events++;
		work = next;
	}
}

/* Whether the kernel has completed something, also where that found no room in the ring. */
static bool has_completions(const struct queue *queue)
{
	return io_uring_cq_ready(&queue->ring) > 0 || io_uring_cq_has_overflow(&queue->ring);
}

/* All there are: hooks take what they have not heard of for done. Those that the kernel holds back
 * until it is entered are not there yet, and to peek at none would enter it for them. */
static void run_completions(struct queue *queue)
{
	struct io_uring_cqe *cqe;

	while (has_completions(queue) && io_uring_peek_cqe(&queue->ring, &cqe) == 0) {
		struct ring_op *op = io_uring_cqe_get_data(cqe);
		int result = cqe->res;
		uint32_t flags = cqe->flags;

		io_uring_cqe_seen(&queue->ring, cqe);
		queue->events += op != &queue->wake_op;
		if (op)
			op->complete(op, result, flags);
	}
}

static void begin_again(struct work *work)
{
}

/* Once each, or two that ask for each other would keep everything else from having its turn. */
static void run_hooks(struct queue *queue)
{
	struct list *entry, end;

	list_append(&queue->hooks, &end); /* what they ask for comes behind it */
	while ((entry = queue->hooks.next) != &end) {
		list_remove(entry);
		list_entry(entry, struct turn_hook, entry)
			->run(list_entry(entry, struct turn_hook, entry));
	}
	list_remove(&end);
	if (!list_empty(&queue->hooks))
		queue_post(queue, &queue->again);
}

/* Whether the kernel holds completions back until it is entered. */
static bool is_held_back(const struct queue *queue)
{
	return io_uring_smp_load_acquire(queue->ring.sq.kflags) & IORING_SQ_TASKRUN;
}

/* Without a system call. */
static bool has_work(const struct queue *queue)
{
	return has_completions(queue) || !inbox_is_empty(&queue->inbox);
}

/* Tells the CPU that the thread goes round in a loop until something happens. */
static void relax_cpu(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/*
 * Submits what is pending, then looks for work at most @limit ticks, during which nobody needs to
 * wake the thread. Whoever brings the work may be waiting for this very CPU, so it goes first.
 */
static bool look_for_work(struct queue *queue, uint64_t limit)
{
	uint64_t began = clock_now();

	io_uring_submit(&queue->ring);
	sched_yield();
	while (!has_work(queue) && !is_held_back(queue) && clock_since(began, clock_now()) < limit)
		relax_cpu();
	if (is_held_back(queue))
		io_uring_get_events(&queue->ring);
	return has_work(queue);
}

/* What the last wait has brought: with what is there by now, or several requests in one event. */
static unsigned pieces_of_work(const struct queue *queue)
{
	return MAX(queue->events, requests_done) + has_work(queue);
}

static bool poll_busily(struct queue *queue)
{
	uint64_t limit = atomic_load_explicit(&queue->busy_poll_limit, memory_order_relaxed);
	bool found;

	if (!busy_poll_pays(&queue->busy_poll, pieces_of_work(queue), limit))
		return false;
	found = look_for_work(queue, limit);
	busy_poll_looked(&queue->busy_poll, found);
	return found;
}

/* One io_uring_enter, which sleeps only when nothing has come into the inbox since it was emptied.
 */
static void submit_and_maybe_sleep(struct queue *queue)
{
	uint64_t began = clock_now();

	if (!inbox_try_sleep(&queue->inbox)) {
		io_uring_submit_and_get_events(&queue->ring);
		return;
	}
	io_uring_submit_and_wait(&queue->ring, 1);
	busy_poll_slept(&queue->busy_poll, clock_since(began, clock_now()));
}

/* A kernel that is short of memory may take less than it was given. */
static void submit_the_rest(struct queue *queue)
{
	while (io_uring_sq_ready(&queue->ring) > 0) {
		run_completions(queue);
		io_uring_submit_and_get_events(&queue->ring);
	}
}

static void await_work(struct queue *queue)
{
	if (!poll_busily(queue))
		submit_and_maybe_sleep(queue);
	queue->events = requests_done = 0;
	submit_the_rest(queue);
}

static void run_turns(struct queue *queue)
{
	for (;;) {
		queue->turn++;
		queue->turn_began = clock_now();
		run_inbox(queue);
		run_completions(queue);
		run_hooks(queue);
		if (queue->stop)
			return;
		await_work(queue);
	}
}

static void report_start(struct queue *queue, int result)
{
	pthread_mutex_lock(&queue->lock);
	queue->start_result = result;
	queue->started = true;
	pthread_cond_signal(&queue->ready);
	pthread_mutex_unlock(&queue->lock);
}

/* The ring is made on its own thread: the kernel binds a single-issuer ring to the task that made
 * it. */
static void *queue_main(void *data)
{
	struct queue *queue = data;
	int r = ring_init(queue);

	if (r == 0) {
		current = queue;
		queue->tid = (int)syscall(SYS_gettid);
		queue->wake_op.complete = woken;
		arm_wake(queue);
	}
	report_start(queue, r);
	if (r < 0)
		return NULL;
	run_turns(queue);
	ring_ends();
	io_uring_queue_exit(&queue->ring);
	return NULL;
}

static int wait_started(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	while (!queue->started)
		pthread_cond_wait(&queue->ready, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
	return queue->start_result;
}

static void queue_free(struct queue *queue)
{
	close(queue->wake_fd);
	pthread_cond_destroy(&queue->ready);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
}

int queue_create(const char *name, unsigned index, struct queue **ret)
{
	struct queue *queue = calloc(1, sizeof(*queue));
	int r;

	if (!queue)
		return -ENOMEM;
	clock_start();
	queue->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->wake_fd < 0) {
		r = -errno;
		free(queue);
		return r;
	}
	queue->inbox = INBOX_EMPTY;
	queue->index = index;
	list_init(&queue->hooks);
	queue->again.run = begin_again;
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->ready, NULL);
	snprintf(queue->name, sizeof(queue->name), "%s", name);
	r = -pthread_create(&queue->thread, NULL, queue_main, queue);
	if (r < 0) {
		queue_free(queue);
		return r;
	}
	pthread_setname_np(queue->thread, queue->name);
	r = wait_started(queue);
	if (r < 0) {
		pthread_join(queue->thread, NULL);
		queue_free(queue);
		return r;
	}
	raise_index_limit(index + 1);
	*ret = queue;
	return 0;
}

/* A function call that another thread waits for. */
struct call {
	struct work work;
	int (*fn)(void *data);
	void *data;
	int result;
	bool finished;
	pthread_mutex_t lock;
	pthread_cond_t done;
};

static void run_call(struct work *work)
{
	struct call *call = container_of(work, struct call, work);
	int result = call->fn(call->data);

	pthread_mutex_lock(&call->lock);
	call->result = result;
	call->finished = true;
	pthread_cond_signal(&call->done);
	pthread_mutex_unlock(&call->lock);
}

int queue_call(struct queue *queue, int (*fn)(void *data), void *data)
{
	struct call call = {
		.work.run = run_call,
		.fn = fn,
		.data = data,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER,
	};

	queue_post(queue, &call.work);
	pthread_mutex_lock(&call.lock);
	while (!call.finished)
		pthread_cond_wait(&call.done, &call.lock);
	pthread_mutex_unlock(&call.lock);
	return call.result;
}

struct stop_work {
	struct work work;
	struct queue *queue;
};

static void run_stop(struct work *work)
{
	container_of(work, struct stop_work, work)->queue->stop = true;
}

void queue_destroy(struct queue *queue)
{
	struct stop_work stop = { .work.run = run_stop, .queue = queue };

	if (!queue)
		return;
	queue_post(queue, &stop.work);
	pthread_join(queue->thread, NULL);
	queue_free(queue);
}
