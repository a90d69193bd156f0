#include "core/figures.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/clock.h"
#include "core/queue.h"

/* Written by one queue's thread. */
struct op_counters {
	_Atomic uint64_t errors, bytes;
	struct histogram parts[FIGURES_PARTS];
};

/* On cache lines of its own, so that queues do not take them from each other. */
struct queue_figures {
	_Alignas(128) _Atomic uint64_t answered;
	struct op_counters ops[REQUEST_OPS];
};

struct figures {
	uint64_t created_at; /* CLOCK_MONOTONIC, ns */
	unsigned nr_queues;
	size_t size; /* bytes of the mapping that this lies in */
	struct queue_figures queues[];
};

/* Pages of its own: what is never written takes no memory, whatever the heap held there before. */
struct figures *figures_create(void)
{
	unsigned nr_queues = queue_index_limit();
	size_t size = sizeof(struct figures) + nr_queues * sizeof(struct queue_figures);
	struct figures *figures =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (figures == MAP_FAILED)
		return NULL;
	madvise(figures, size, MADV_NOHUGEPAGE);
	figures->created_at = clock_monotonic_ns();
	figures->nr_queues = nr_queues;
	figures->size = size;
	return figures;
}

void figures_free(struct figures *figures)
{
	if (figures)
		munmap(figures, figures->size);
}

uint64_t figures_age(const struct figures *figures)
{
	return clock_monotonic_ns() - figures->created_at;
}

uint64_t figures_since(const struct figures *figures)
{
	return figures->created_at;
}

static void read_counters(const struct op_counters *counters, struct op_figures *ret)
{
	ret->errors += counter_read(&counters->errors);
	ret->bytes += counter_read(&counters->bytes);
	for (unsigned part = 0; part < FIGURES_PARTS; part++)
		histogram_read(&counters->parts[part], &ret->parts[part]);
}

void figures_read(const struct figures *figures, enum request_op op, struct op_figures *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < figures->nr_queues; i++)
		read_counters(&figures->queues[i].ops[op], ret);
}

uint64_t figures_answered(const struct figures *figures)
{
	uint64_t answered = 0;

	for (unsigned i = 0; i < figures->nr_queues; i++)
		answered += counter_read(&figures->queues[i].answered);
	return answered;
}

const char *figures_part_name(enum figures_part part)
{
	static const char *const names[] = {
		[FIGURES_FRONTEND] = "frontend",
		[FIGURES_QUEUE] = "queue",
		[FIGURES_STORAGE] = "storage",
		[FIGURES_LATENCY] = "latency",
	};

	return names[part];
}

void figures_submitted(struct request *request)
{
	request->picked_up_at = queue_turn_began(request->home);
	request->submitted_at = clock_now();
}

void figures_completed_elsewhere(struct request *request)
{
	request->completed_at = clock_now();
}

static void count(struct op_counters *counters, const struct request *request)
{
	if (request->result < 0)
		counter_add(&counters->errors, 1);
	else
		counter_add(&counters->bytes, request->length);
}

static uint64_t add_part(struct op_counters *counters, enum figures_part part, uint64_t ticks)
{
	uint64_t ns = clock_ns(ticks);

	histogram_add(&counters->parts[part], ns);
	return ns;
}

static void add_times(struct op_counters *counters, const struct request *request)
{
	uint64_t turn = queue_turn_began(request->home);
	uint64_t completed = request->completed_at ? request->completed_at : turn;
	uint64_t latency;

	latency = add_part(counters, FIGURES_FRONTEND,
			   clock_since(request->picked_up_at, request->submitted_at));
	latency +=
		add_part(counters, FIGURES_STORAGE, clock_since(request->submitted_at, completed));
	latency += add_part(counters, FIGURES_QUEUE, clock_since(completed, turn));
	histogram_add(&counters->parts[FIGURES_LATENCY], latency);
}

void figures_finished(struct figures *figures, const struct request *request)
{
	unsigned index = queue_index(request->home);
	struct op_counters *counters;

	/* A queue that came after the image, or an op that is none and was refused. */
	if (index >= figures->nr_queues || request->op >= REQUEST_OPS)
		return;
	counter_add(&figures->queues[index].answered, 1);
	counters = &figures->queues[index].ops[request->op];
	count(counters, request);
	add_times(counters, request);
}
