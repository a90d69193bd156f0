#include "core/clock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/macros.h"

#define CALIBRATION_NS 2000000 /* as long as that the scale is right to some 10^-5 */
#define ATTEMPTS       8

struct clock_scale clock_scale;

uint64_t clock_monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#ifdef __x86_64__
#include <cpuid.h>

/* "Invariant": the same rate in every state of power and speed. */
static bool counter_is_steady(void)
{
	unsigned eax, ebx, ecx, edx;

	return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && (edx & (1 << 8));
}
#else
static bool counter_is_steady(void)
{
	return false;
}
#endif

/* The kernel watches the counter, and strikes it from this list when cores disagree. */
static bool kernel_trusts_counter(void)
{
	char line[256] = "";
	FILE *file =
		fopen("/sys/devices/system/clocksource/clocksource0/available_clocksource", "re");

	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		*line = '\0';
	fclose(file);
	for (char *rest = line, *word; (word = strtok_r(rest, " \n", &rest));)
		if (strcmp(word, "tsc") == 0)
			return true;
	return false;
}

/* Both clocks at one moment. */
struct moment {
	uint64_t counter, ns;
};

/* The best of some attempts: the one that nothing interrupted. */
static struct moment read_moment(void)
{
	struct moment best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (unsigned i = 0; i < ATTEMPTS; i++) {
		uint64_t before = clock_counter(), ns = clock_monotonic_ns();
		uint64_t took = clock_counter() - before;

		if (took >= shortest)
			continue;
		shortest = took;
		best = (struct moment){ before + took / 2, ns };
	}
	return best;
}

static uint64_t measure_multiplier(void)
{
	struct moment begin = read_moment(), end;

	nanosleep(&(struct timespec){ .tv_nsec = CALIBRATION_NS }, NULL);
	end = read_moment();
	if (end.counter <= begin.counter || end.ns <= begin.ns)
		return 0;
	return (uint64_t)(((unsigned __int128)(end.ns - begin.ns) << 32) /
			  (end.counter - begin.counter));
}

static void start(void)
{
	if (counter_is_steady() && kernel_trusts_counter())
		clock_scale.multiplier = measure_multiplier();
}

void clock_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
}
