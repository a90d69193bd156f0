/*
 * Many requests of all kinds at once. The image is cut into lanes; each lane makes one request
 * after the other within its own range, and knows what must be there; lanes run side by side on all
 * queues.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/conformance/checks.h"

#define LANES	  64
#define LANE_SIZE (256u * 1024)
#define STEPS	  120
#define MAX_IO	  (128u * 1024)

struct lane {
	struct io io;
	struct test *test;
	uint64_t start; /* bytes, of the image */
	unsigned steps;
	char *model;  /* what must be in the lane */
	char *buffer; /* aligned */
	bool maybe;   /* the range was just discarded: each of its bytes may be zero by now */
	sem_t *finished;
};

static char *model_of_request(struct lane *lane)
{
	return lane->model + (lane->io.request.offset - lane->start);
}

static void compare(struct lane *lane)
{
	struct request *request = &lane->io.request;
	char *model = model_of_request(lane);

	for (uint64_t i = 0; i < request->length; i++) {
		if (lane->maybe && lane->buffer[i] == 0)
			model[i] = 0;
		if (lane->buffer[i] == model[i])
			continue;
		fail("the byte at %" PRIu64 " is %02x, not %02x", request->offset + i,
		     (unsigned char)lane->buffer[i], (unsigned char)model[i]);
		break;
	}
	lane->maybe = false;
}

/* What the finished request has done to the lane. */
static void note(struct lane *lane)
{
	struct request *request = &lane->io.request;

	if (request->op == REQUEST_READ)
		compare(lane);
	else if (request->op == REQUEST_WRITE && !lane->test->forgets)
		memcpy(model_of_request(lane), request->buffer, request->length);
	else if (request->op == REQUEST_WRITE_ZEROES)
		memset(model_of_request(lane), 0, request->length);
	else if (request->op == REQUEST_DISCARD)
		lane->maybe = true;
}

static void choose_range(struct lane *lane)
{
	const uint64_t block = lane->test->image->info.block_size;
	uint64_t blocks = 1 + pick(MAX_IO / block);

	lane->io.request.length = blocks * block;
	lane->io.request.offset = lane->start + pick(LANE_SIZE / block - blocks + 1) * block;
}

static void choose(struct lane *lane)
{
	static const enum request_op ops[] = { REQUEST_READ,	     REQUEST_READ,  REQUEST_WRITE,
					       REQUEST_WRITE,	     REQUEST_WRITE, REQUEST_DISCARD,
					       REQUEST_WRITE_ZEROES, REQUEST_FLUSH };
	struct request *request = &lane->io.request;

	request->flags = 0;
	if (lane->maybe) {
		request->op = REQUEST_READ; /* the same range: see what became of it */
		return;
	}
	request->op = ops[pick(ARRAY_SIZE(ops))];
	choose_range(lane);
	if (request->op == REQUEST_FLUSH)
		request->offset = request->length = 0;
	if (request->op == REQUEST_WRITE)
		fill(lane->buffer, request->length, pick(UINT32_MAX));
	if (request->op == REQUEST_WRITE || request->op == REQUEST_WRITE_ZEROES)
		request->flags |= pick(4) ? 0 : REQUEST_FUA;
	if (request->op == REQUEST_WRITE_ZEROES)
		request->flags |= pick(2) ? 0 : REQUEST_NOUNMAP;
}

static void step(struct lane *lane)
{
	if (lane->steps-- == 0) {
		sem_post(lane->finished);
		return;
	}
	choose(lane);
	io_start(&lane->io);
}

static void stepped(struct io *io)
{
	struct lane *lane = container_of(io, struct lane, io);

	if (io->request.result < 0)
		fail("%s of %" PRIu64 " at %" PRIu64 " gave %s", request_op_name(io->request.op),
		     io->request.length, io->request.offset, errno_name(io->request.result));
	else
		note(lane);
	step(lane);
}

static void lane_init(struct lane *lane, struct test *test, unsigned index, sem_t *finished)
{
	io_init(&lane->io, test->queues[index % TEST_QUEUES], test->image);
	lane->test = test;
	lane->start = (uint64_t)index * LANE_SIZE;
	lane->steps = STEPS;
	lane->maybe = false;
	lane->model = calloc(1, LANE_SIZE);
	lane->buffer = aligned_alloc(4096, MAX_IO);
	lane->io.request.buffer = lane->buffer;
	lane->io.then = stepped;
	lane->finished = finished;
}

static void lane_deinit(struct lane *lane)
{
	/* After a discard as the last step, the lane may hold zeroes that the model does not. */
	if (!lane->maybe)
		expect_data(lane->test, lane->start, LANE_SIZE, lane->model, "after the mix");
	sem_destroy(&lane->io.done);
	free(lane->model);
	free(lane->buffer);
}

static void many_at_once(struct test *test)
{
	static struct lane lanes[LANES];
	sem_t finished;

	sem_init(&finished, 0, 0);
	must_io(test, REQUEST_WRITE_ZEROES, 0, 0, LANES * LANE_SIZE, NULL);
	for (unsigned i = 0; i < LANES; i++)
		lane_init(&lanes[i], test, i, &finished);
	for (unsigned i = 0; i < LANES; i++)
		step(&lanes[i]);
	for (unsigned i = 0; i < LANES; i++)
		while (sem_wait(&finished) < 0)
			;
	for (unsigned i = 0; i < LANES; i++)
		lane_deinit(&lanes[i]);
	sem_destroy(&finished);
}

const struct check mix_checks[] = {
	{ "many requests at once", many_at_once },
	{ NULL, NULL },
};
