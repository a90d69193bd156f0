#include "core/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_MS 2

enum lane_state { LANE_OPEN, LANE_HELD, LANE_FAILING };

/* A queue's part of the gate: its thread's, but for the counter. */
struct lane {
	struct gate *gate;
	struct queue *queue;
	enum lane_state state;
	struct work *first, **last; /* of request.work, which nobody else uses meanwhile */
	atomic_uint waiting;	    /* written by the queue's thread */
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

static void park(struct lane *lane, struct request *request)
{
	request->work.next = NULL;
	*lane->last = &request->work;
	lane->last = &request->work.next;
	count_waiting(lane, 1);
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

	if (request->result != -ESHUTDOWN || lane->state == LANE_FAILING)
		return false;
	lane->state = LANE_HELD;
	park(lane, request);
	if (gate->config.cut_off)
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

static bool is_past(const struct timespec *deadline)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > deadline->tv_sec ||
	       (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

/* While requests wait their number only grows: read first, it never hides one at the image. */
static bool is_idle(struct gate *gate)
{
	unsigned waiting = gate_waiting(gate);

	return atomic_load_explicit(&gate->image.in_flight, memory_order_acquire) <= waiting;
}

bool gate_wait_idle(struct gate *gate, const struct timespec *deadline, const atomic_uint *cancel)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000 * 1000 };

	while (!is_idle(gate)) {
		if (is_past(deadline) || (cancel && atomic_load(cancel) > 0))
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

static void inner_resized(struct image *inner, void *data)
{
	struct gate *gate = data;
	uint64_t size = atomic_load(&inner->info.size);

	if (atomic_exchange(&gate->image.info.size, size) != size && gate->image.resized)
		gate->image.resized(&gate->image, gate->image.resized_data);
}

static void listen_to(struct gate *gate, struct image *inner)
{
	inner->resized_data = gate;
	inner->resized = inner_resized;
	gate->inner = inner;
}

struct image *gate_take_inner(struct gate *gate)
{
	struct image *inner = gate->inner;

	gate->inner = NULL;
	return inner;
}

void gate_resume(struct gate *gate, struct image *inner)
{
	listen_to(gate, inner);
	inner_resized(inner, gate);
	call_lanes(gate, resume_lane);
}

void gate_fail(struct gate *gate)
{
	call_lanes(gate, fail_lane);
}

static int gate_close(struct image *image)
{
	struct gate *gate = gate_of(image);
	int r = image_close(gate->inner);

	free(gate);
	return r;
}

static const struct image_ops gate_ops = {
	.name = "gate",
	.submit = gate_submit,
	.take_back = gate_take_back,
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
	}
	listen_to(gate, inner);
	*ret = gate;
	return 0;
}
