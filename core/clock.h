/*
 * The time for figures, as cheap as the machine has it: the processor's own counter where it runs
 * at one rate on all cores and the kernel trusts it, CLOCK_MONOTONIC otherwise.
 *
 * A reading is in ticks, which differ from machine to machine: only differences of readings mean
 * something, once clock_ns() has made nanoseconds of them. Cores may be some ticks apart, so a
 * difference between two threads can be negative; clock_since() takes that for nothing.
 */
#pragma once

#include <stdint.h>
#include <time.h>

/* Set by clock_start(), constant afterwards. */
struct clock_scale {
	uint64_t multiplier; /* ns a tick, in 2^-32; 0: a tick is a nanosecond of CLOCK_MONOTONIC */
};
extern struct clock_scale clock_scale;

/* Any thread, before the first reading; only the first call does anything. Takes 2 ms. */
void clock_start(void);

/* Nanoseconds of CLOCK_MONOTONIC. Any thread, at any time. */
uint64_t clock_monotonic_ns(void);

#ifdef __x86_64__
static inline uint64_t clock_counter(void)
{
	return __builtin_ia32_rdtsc();
}
#else
/* Never chosen. */
static inline uint64_t clock_counter(void)
{
	return 0;
}
#endif

/* Ticks. Any thread. */
static inline uint64_t clock_now(void)
{
	return clock_scale.multiplier ? clock_counter() : clock_monotonic_ns();
}

static inline uint64_t clock_since(uint64_t before, uint64_t after)
{
	return after > before ? after - before : 0;
}

/* The nanoseconds of so many ticks. */
static inline uint64_t clock_ns(uint64_t ticks)
{
	if (clock_scale.multiplier == 0)
		return ticks;
	return (uint64_t)(((unsigned __int128)ticks * clock_scale.multiplier) >> 32);
}

/* The ticks of so many nanoseconds, an hour at most. */
static inline uint64_t clock_ticks(uint64_t ns)
{
	if (clock_scale.multiplier == 0)
		return ns;
	return (uint64_t)(((unsigned __int128)ns << 32) / clock_scale.multiplier);
}
