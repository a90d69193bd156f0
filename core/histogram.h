/*
 * Histograms of times: how often something took how long.
 *
 * The buckets are log-linear: eight to a power of two, so a bucket is at most an eighth as wide as
 * what it holds, from 64 ns to 275 s. What takes longer falls into the last one.
 *
 * A histogram has one writer, which pays two additions without a lock or a locked instruction.
 * Anybody may read at any time: each number is whole and never goes back, but a reader may see the
 * newest entry in one of them and not yet in the other. Zeroed memory is an empty histogram.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_UNIT_BITS 6 /* the finest bucket: 64 ns */
#define HISTOGRAM_SUB_BITS  3
#define HISTOGRAM_BUCKETS   ((32 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	_Atomic uint64_t sum; /* nanoseconds */
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* What was read of one histogram or several. The reader's own. */
struct histogram_sum {
	uint64_t count;
	uint64_t sum; /* nanoseconds */
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* The bucket of @ns nanoseconds. */
static inline unsigned histogram_index(uint64_t ns)
{
	uint64_t units = ns >> HISTOGRAM_UNIT_BITS;
	unsigned shift;

	if (units > UINT32_MAX)
		return HISTOGRAM_BUCKETS - 1;
	if (units < 1 << HISTOGRAM_SUB_BITS)
		return (unsigned)units;
	shift = 31 - HISTOGRAM_SUB_BITS - (unsigned)__builtin_clz((unsigned)units);
	return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(units >> shift);
}

/* A counter with a single writer needs no read-modify-write. The writer's thread. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t step)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + step, memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The writer's thread. */
static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
	counter_add(&histogram->sum, ns);
	counter_add(&histogram->buckets[histogram_index(ns)], 1);
}

/* Nanoseconds below which all of the bucket lies. */
uint64_t histogram_bound(unsigned index);

/* Any thread. Adds what @histogram holds now. */
void histogram_read(const struct histogram *histogram, struct histogram_sum *sum);

/*
 * Nanoseconds that @permille of a thousand did not exceed: the bound of the bucket in which that
 * one lies, so up to an eighth too much, never too little but for what exceeds the last bucket. 0
 * when there is none.
 */
uint64_t histogram_quantile(const struct histogram_sum *sum, unsigned permille);

/* How many took less than @ns nanoseconds, which is the bound of a bucket: any power of two from
 * 64 ns on. */
uint64_t histogram_below(const struct histogram_sum *sum, uint64_t ns);
