#include "core/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "core/clock.h"

#define PAUSE_MS   2
#define NS_PER_SEC UINT64_C(1000000000)

/* Use of request.scratch while it waits here, when no image uses it. */
enum scratch { SCRATCH_SINCE /* clock_monotonic_ns() */ };

_Static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "a time fits into a word of scratch");

enum lane_state { LANE_OPEN, LANE_HELD, LANE_FAILING };

/* A queue's part of the gate: its thread's, but for the counter. */
struct lane {
	struct gate *gate;
	struct queue *queue;
	enum lane_state state;
	struct work *first, **last; /* of request.work, which nobody else uses meanwhile */
	atomic_uint waiting;	    /* written by the queue's thread */

	/* Runs while requests wait, where they may not do so for ever. */
	struct ring_op timer, timer_removal;
	struct __kernel_timespec timer_length;
	bool timer_runs;
	atomic_uint ops;      /* of the two, how many the ring has */
	atomic_uint expiries; /* odd while requests expire */
};

struct gate {
	struct image image;
	struct gate_config config;
	struct image *inner; /* read by the lanes while open: exchanged only while all are held */
	unsigned nr_lanes;
	struct lane lanes[];
};

static struct gate *gate_of(struct image *image)
{
	return container_of(image, struct gate, image);
}

/* The lane of a request. There are a handful of queues; the index finds it at once as a rule. */
static struct lane *lane_of(struct gate *gate, const struct request *request)
{
	unsigned guess = queue_index(request->home) % gate->nr_lanes;

	while (gate->lanes[guess].queue != request->home)
		guess = (guess + 1) % gate->nr_lanes;
	return &gate->lanes[guess];
}

/* Queue threads. */

static void count_waiting(struct lane *lane, int step)
{
	unsigned waiting = atomic_load_explicit(&lane->waiting, memory_order_relaxed);

	atomic_store_explicit(&lane->waiting, waiting + (unsigned)step, memory_order_release);
}

static void start_timer(struct lane *lane, uint64_t ns)
{
	struct io_uring_sqe *sqe = queue_get_sqe(lane->queue);

	lane->timer_length.tv_sec = (long long)(ns / NS_PER_SEC);
	lane->timer_length.tv_nsec = (long long)(ns % NS_PER_SEC);
	lane->timer_runs = true;
	atomic_fetch_add(&lane->ops, 1);
	io_uring_prep_timeout(sqe, &lane->timer_length, 0, 0);
	queue_sqe_bind(sqe, &lane->timer);
}

static void park(struct lane *lane, struct request *request)
{
	request->work.next = NULL;
	*lane->last = &request->work;
	lane->last = &request->work.next;
	count_waiting(lane, 1);
	if (lane->gate->config.io_timeout == 0)
		return;
	request->scratch[SCRATCH_SINCE] = clock_monotonic_ns();
	if (!lane->timer_runs)
		start_timer(lane, lane->gate->config.io_timeout * NS_PER_SEC);
}

static void pass_on(struct lane *lane, struct request *request)
{
	struct image *inner = lane->gate->inner;

	inner->ops->submit(inner, request);
}

static void gate_submit(struct image *image, struct request *request)
{
	struct lane *lane = lane_of(gate_of(image), request);

	if (lane->state == LANE_OPEN)
		pass_on(lane, request);
	else if (lane->state == LANE_HELD)
		park(lane, request);
	else
		request_complete(request, -EIO);
}

static bool gate_take_back(struct image *image, struct request *request)
{
	struct gate *gate = gate_of(image);
	struct lane *lane = lane_of(gate, request);

	if (request->result != -ESHUTDOWN || lane->state == LANE_FAILING || !gate->config.cut_off)
		return false;
	lane->state = LANE_HELD;
	park(lane, request);
	gate->config.cut_off(gate->config.data);
	return true;
}

static struct request *take_first(struct lane *lane)
{
	struct work *work = lane->first;

	lane->first = work->next;
	if (!lane->first)
		lane->last = &lane->first;
	count_waiting(lane, -1);
	return container_of(work, struct request, work);
}

/* Nanoseconds that the first one may wait yet. */
static uint64_t patience(const struct lane *lane)
{
	const struct request *first = container_of(lane->first, struct request, work);
	uint64_t until = first->scratch[SCRATCH_SINCE] + lane->gate->config.io_timeout * NS_PER_SEC;
	uint64_t now = clock_monotonic_ns();

	return until > now ? until - now : 0;
}

/* They wait in the order in which they came. */
static void expire(struct lane *lane)
{
	atomic_fetch_add(&lane->expiries, 1);
	while (lane->first && patience(lane) == 0)
		request_complete(take_first(lane), -EIO);
	atomic_fetch_add(&lane->expiries, 1);
}

static void timer_ended(struct ring_op *op, int result, uint32_t flags)
{
	struct lane *lane = container_of(op, struct lane, timer);

	lane->timer_runs = false;
	if (result != -ECANCELED)
		expire(lane);
	if (lane->first && !lane->timer_runs)
		start_timer(lane, patience(lane));
	atomic_fetch_sub(&lane->ops, 1); /* last: a gate that closes goes on with it */
}

static void removal_ended(struct ring_op *op, int result, uint32_t flags)
{
	atomic_fetch_sub(&container_of(op, struct lane, timer_removal)->ops, 1);
}

static int remove_timer(void *data)
{
	struct lane *lane = data;
	struct io_uring_sqe *sqe;

	if (!lane->timer_runs)
		return 0;
	atomic_fetch_add(&lane->ops, 1);
	sqe = queue_get_sqe(lane->queue);
	io_uring_prep_timeout_remove(sqe, (uintptr_t)&lane->timer, 0);
	queue_sqe_bind(sqe, &lane->timer_removal);
	return 0;
}

static int hold_lane(void *data)
{
	struct lane *lane = data;

	if (lane->state == LANE_OPEN)
		lane->state = LANE_HELD;
	return 0;
}

/* What comes back at once, from an image that is cut off again, waits behind what is left. */
static int resume_lane(void *data)
{
	struct lane *lane = data;
	unsigned left = atomic_load(&lane->waiting);

	if (lane->state != LANE_HELD)
		return 0;
	lane->state = LANE_OPEN;
	while (left-- > 0 && lane->state == LANE_OPEN)
		pass_on(lane, take_first(lane));
	return 0;
}

static int fail_lane(void *data)
{
	struct lane *lane = data;

	lane->state = LANE_FAILING;
	while (lane->first)
		request_complete(take_first(lane), -EIO);
	return 0;
}

/* Any other thread. */

static void call_lanes(struct gate *gate, int (*fn)(void *data))
{
	for (unsigned i = 0; i < gate->nr_lanes; i++)
		queue_call(gate->lanes[i].queue, fn, &gate->lanes[i]);
}

void gate_hold(struct gate *gate)
{
	call_lanes(gate, hold_lane);
}

unsigned gate_waiting(const struct gate *gate)
{
	unsigned waiting = 0;

	for (unsigned i = 0; i < gate->nr_lanes; i++)
		waiting += atomic_load_explicit(&gate->lanes[i].waiting, memory_order_acquire);
	return waiting;
}

/* False while requests expire. *ret: how often they have. */
static bool count_expiries(const struct gate *gate, unsigned *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < gate->nr_lanes; i++) {
		unsigned expiries = atomic_load(&gate->lanes[i].expiries);

		if (expiries % 2)
			return false;
		*ret += expiries;
	}
	return true;
}

/* While none expires the number of those that wait only grows: read first, it never hides one at
 * the image. */
static bool is_idle(struct gate *gate)
{
	unsigned before, after, waiting, in_flight;

	if (!count_expiries(gate, &before))
		return false;
	waiting = gate_waiting(gate);
	in_flight = atomic_load_explicit(&gate->image.in_flight, memory_order_acquire);
	return in_flight <= waiting && count_expiries(gate, &after) && before == after;
}

bool gate_wait_idle(struct gate *gate, const struct timespec *deadline, const atomic_uint *cancel)
{
	while (!is_idle(gate)) {
		if (deadline_passed(deadline) || (cancel && atomic_load(cancel) > 0))
			return false;
		pause_ms(PAUSE_MS);
	}
	return true;
}

struct image *gate_take_inner(struct gate *gate)
{
	struct image *inner = gate->inner;

	if (inner)
		image_listen(inner, NULL, NULL);
	gate->inner = NULL;
	return inner;
}

void gate_resume(struct gate *gate, struct image *inner)
{
	gate->inner = inner;
	image_follow(&gate->image, inner);
	call_lanes(gate, resume_lane);
}

void gate_fail(struct gate *gate)
{
	call_lanes(gate, fail_lane);
}

static void end_timers(struct gate *gate)
{
	call_lanes(gate, remove_timer);
	for (unsigned i = 0; i < gate->nr_lanes; i++)
		while (atomic_load(&gate->lanes[i].ops) > 0)
			pause_ms(PAUSE_MS);
}

/* Of the image that is behind it now. */
static int gate_watch_snapshots(struct image *image, const struct image_quiesce *quiesce)
{
	return image_watch_snapshots(gate_of(image)->inner, quiesce);
}

static bool gate_set_snapshots(struct image *image, enum image_snapshots to)
{
	struct image *inner = gate_of(image)->inner;

	return !inner || image_set_snapshots(inner, to);
}

static int gate_close(struct image *image)
{
	struct gate *gate = gate_of(image);
	int r = image_close(gate->inner);

	end_timers(gate);
	free(gate);
	return r;
}

static const struct image_ops gate_ops = {
	.name = "gate",
	.submit = gate_submit,
	.take_back = gate_take_back,
	.watch_snapshots = gate_watch_snapshots,
	.set_snapshots = gate_set_snapshots,
	.close = gate_close,
};

struct image *gate_image(struct gate *gate)
{
	return &gate->image;
}

int gate_create(const struct gate_config *config, struct image *inner, struct gate **ret)
{
	struct gate *gate = calloc(1, sizeof(*gate) + config->nr_queues * sizeof(gate->lanes[0]));

	if (!gate)
		return -ENOMEM;
	gate->image.ops = &gate_ops;
	gate->image.info = inner->info;
	memcpy(gate->image.identity, inner->identity, sizeof(inner->identity));
	gate->config = *config;
	gate->nr_lanes = config->nr_queues;
	for (unsigned i = 0; i < gate->nr_lanes; i++) {
		struct lane *lane = &gate->lanes[i];

		lane->gate = gate;
		lane->queue = config->queues[i];
		lane->last = &lane->first;
		lane->timer.complete = timer_ended;
		lane->timer_removal.complete = removal_ended;
	}
	gate->inner = inner;
	image_follow(&gate->image, inner);
	*ret = gate;
	return 0;
}
