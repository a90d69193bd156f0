#include "core/flush.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"

#define PAUSE_MS   2
#define NS_PER_SEC UINT64_C(1000000000)

/* Freed by the last of the two that have it: who waits, and the request. */
struct flush {
	struct request request;
	struct image *image;
	atomic_bool done;
	atomic_uint holders;
};

static void put(struct flush *flush)
{
	if (atomic_fetch_sub(&flush->holders, 1) == 1)
		free(flush);
}

static void flushed(struct request *request)
{
	struct flush *flush = container_of(request, struct flush, request);

	atomic_store(&flush->done, true);
	put(flush);
}

static int submit(void *data)
{
	struct flush *flush = data;

	image_submit(flush->image, &flush->request);
	return 0;
}

static bool is_past(const struct timespec *deadline)
{
	return clock_monotonic_ns() >=
	       (uint64_t)deadline->tv_sec * NS_PER_SEC + (uint64_t)deadline->tv_nsec;
}

static int await(struct flush *flush, const struct timespec *deadline, const atomic_uint *cancel)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000 * 1000 };

	while (!atomic_load(&flush->done)) {
		if (is_past(deadline) || (cancel && atomic_load(cancel) > 0))
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return flush->request.result;
}

int image_flush(struct image *image, struct queue *queue, const struct timespec *deadline,
		const atomic_uint *cancel)
{
	struct flush *flush = calloc(1, sizeof(*flush));
	int r;

	if (!flush)
		return -ENOMEM;
	flush->request = (struct request){ .op = REQUEST_FLUSH, .home = queue, .done = flushed };
	flush->image = image;
	atomic_init(&flush->holders, 2);
	queue_call(queue, submit, flush);
	r = await(flush, deadline, cancel);
	put(flush);
	return r;
}
