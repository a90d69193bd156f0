/* What the conformance checks share: the image under test, requests to it, and the count of
 * failures. */
#pragma once

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/deadline.h"
#include "common/error.h"
#include "core/image.h"
#include "core/queue.h"

#define TEST_QUEUES 2
#define BUFFER_MAX  (8u << 20)

struct test {
	struct queue *queues[TEST_QUEUES];
	struct image *image;
	bool forgets; /* what is written reads as zeroes (null) */

	/* Opens the storage once more, after the image was closed. Ends the program on failure. */
	struct image *(*open)(struct test *test, bool read_only);

	char *buffer, *other; /* BUFFER_MAX bytes each, aligned to 4096 */
};

/* Counts and prints a failure of the check that runs. Any thread. */
void fail(const char *fmt, ...) printf_like(1, 2);

#define expect(condition, ...)             \
	do {                               \
		if (!(condition))          \
			fail(__VA_ARGS__); \
	} while (0)

struct check {
	const char *name;
	void (*run)(struct test *test);
};

/* Runs a check and prints its outcome. */
/* Of monotonic_now(). */
double seconds_since(const struct timespec *start);

void run_check(struct test *test, const struct check *check);
unsigned failed_checks(void);

/* A request that watches its own completion: once, on its home thread. */
struct io {
	struct request request;
	struct work start;
	struct image *image;
	atomic_uint completions;
	sem_t done;
	void (*then)(struct io *io); /* home thread, instead of waking a waiter */
};

/* Prepares @io for the queue @home. */
void io_init(struct io *io, struct queue *home, struct image *image);

/* Submits what io->request says, on its home thread. */
void io_start(struct io *io);

/* Makes one request, on one queue after the other, and waits for it. */
int do_io(struct test *test, enum request_op op, uint32_t flags, uint64_t offset, uint64_t length,
	  void *buffer);

/* The same, for requests that must succeed. */
void must_io(struct test *test, enum request_op op, uint32_t flags, uint64_t offset,
	     uint64_t length, void *buffer);

/* Fills @bytes with a pattern that differs by @seed and position, and holds no zero. */
void fill(char *bytes, uint64_t length, uint64_t seed);

/* Reads the range and expects @expected there (or zeroes, where the image forgets). */
void expect_data(struct test *test, uint64_t offset, uint64_t length, const char *expected,
		 const char *what);
void expect_zeroes(struct test *test, uint64_t offset, uint64_t length, const char *what);

/* A random number below @limit. Any thread. The seed comes from SEED or the clock. */
uint64_t pick(uint64_t limit);
void pick_seed(void);
