#include "tests/conformance/harness.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_FAILURES 8

static atomic_uint failures; /* of the running check */
static unsigned failed;
static uint64_t random_state;

void fail(const char *fmt, ...)
{
	char text[512];
	va_list args;

	if (atomic_fetch_add(&failures, 1) >= SHOWN_FAILURES)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	printf("    %s\n", text);
}

double seconds_since(const struct timespec *start)
{
	struct timespec now = monotonic_now();

	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

void run_check(struct test *test, const struct check *check)
{
	struct timespec start = monotonic_now();
	double took;

	atomic_store(&failures, 0);
	check->run(test);
	took = seconds_since(&start);
	if (failures)
		failed++;
	printf("%s %s (%.2f s)\n", failures ? "not ok" : "ok", check->name, took);
	fflush(stdout);
}

unsigned failed_checks(void)
{
	return failed;
}

static void io_done(struct request *request)
{
	struct io *io = container_of(request, struct io, request);
	const char *name = request_op_name(request->op);

	expect(atomic_fetch_add(&io->completions, 1) == 0, "a %s was completed twice", name);
	expect(queue_is_current(request->home), "a %s was completed off its home thread", name);
	expect(request->result <= 0, "a %s ended in %d: neither 0 nor a negative errno", name,
	       request->result);
	if (io->then)
		io->then(io);
	else
		sem_post(&io->done);
}

static void io_submit(struct work *work)
{
	struct io *io = container_of(work, struct io, start);

	image_submit(io->image, &io->request);
}

void io_init(struct io *io, struct queue *home, struct image *image)
{
	memset(io, 0, sizeof(*io));
	io->image = image;
	io->request.home = home;
	io->request.done = io_done;
	io->start.run = io_submit;
	sem_init(&io->done, 0, 0);
}

void io_start(struct io *io)
{
	atomic_store(&io->completions, 0);
	queue_post(io->request.home, &io->start);
}

static int nothing(void *data)
{
	return 0;
}

int do_io(struct test *test, enum request_op op, uint32_t flags, uint64_t offset, uint64_t length,
	  void *buffer)
{
	static unsigned turn;
	struct io io;

	io_init(&io, test->queues[turn++ % TEST_QUEUES], test->image);
	io.request.op = op;
	io.request.flags = flags;
	io.request.offset = offset;
	io.request.length = length;
	if (op == REQUEST_EXTENTS)
		io.request.extents = buffer;
	else
		io.request.buffer = buffer;
	io_start(&io);
	while (sem_wait(&io.done) < 0)
		;
	/* Lets a second completion, which must not come, come while there is something to see. */
	queue_call(io.request.home, nothing, NULL);
	sem_destroy(&io.done);
	return io.request.result;
}

void must_io(struct test *test, enum request_op op, uint32_t flags, uint64_t offset,
	     uint64_t length, void *buffer)
{
	int r = do_io(test, op, flags, offset, length, buffer);

	expect(r == 0, "%s of %" PRIu64 " at %" PRIu64 " gave %s", request_op_name(op), length,
	       offset, errno_name(r));
}

void fill(char *bytes, uint64_t length, uint64_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;

	for (uint64_t i = 0; i < length; i++) {
		state = state * 6364136223846793005 + 1442695040888963407;
		bytes[i] = (char)(state >> 56 | 1);
	}
}

/* @expected NULL: zeroes. */
static void expect_bytes(struct test *test, uint64_t offset, uint64_t length, const char *expected,
			 const char *what)
{
	uint64_t i = 0;

	memset(test->other, 0xee, length);
	must_io(test, REQUEST_READ, 0, offset, length, test->other);
	while (i < length && test->other[i] == (expected ? expected[i] : 0))
		i++;
	expect(i == length, "%s: the byte at %" PRIu64 " (%" PRIu64 " of %" PRIu64 ") is wrong",
	       what, offset + i, i, length);
}

void expect_data(struct test *test, uint64_t offset, uint64_t length, const char *expected,
		 const char *what)
{
	expect_bytes(test, offset, length, test->forgets ? NULL : expected, what);
}

void expect_zeroes(struct test *test, uint64_t offset, uint64_t length, const char *what)
{
	expect_bytes(test, offset, length, NULL, what);
}

void pick_seed(void)
{
	const char *text = getenv("SEED");

	random_state = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
	printf("# SEED=%" PRIu64 "\n", random_state);
}

uint64_t pick(uint64_t limit)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint64_t number;

	pthread_mutex_lock(&lock);
	random_state = random_state * 6364136223846793005 + 1442695040888963407;
	number = random_state >> 33;
	pthread_mutex_unlock(&lock);
	return number % limit;
}
