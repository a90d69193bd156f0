#include "common/deadline.h"

#include <limits.h>

#define MS_PER_SECOND 1000
#define NS_PER_MS     1000000
#define NS_PER_SECOND 1000000000

struct timespec monotonic_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now;
}

struct timespec deadline_in(unsigned seconds)
{
	struct timespec deadline = monotonic_now();

	deadline.tv_sec += seconds;
	return deadline;
}

struct timespec deadline_in_ms(int64_t ms)
{
	struct timespec deadline = monotonic_now();

	deadline.tv_sec += ms / MS_PER_SECOND;
	deadline.tv_nsec += ms % MS_PER_SECOND * NS_PER_MS;
	if (deadline.tv_nsec >= NS_PER_SECOND) {
		deadline.tv_sec++;
		deadline.tv_nsec -= NS_PER_SECOND;
	} else if (deadline.tv_nsec < 0) {
		deadline.tv_sec--;
		deadline.tv_nsec += NS_PER_SECOND;
	}
	return deadline;
}

/* Nanoseconds, negative once it has passed. */
static int64_t left_ns(const struct timespec *deadline)
{
	struct timespec now = monotonic_now();

	return (int64_t)(deadline->tv_sec - now.tv_sec) * NS_PER_SECOND +
	       (deadline->tv_nsec - now.tv_nsec);
}

bool deadline_passed(const struct timespec *deadline)
{
	return left_ns(deadline) <= 0;
}

unsigned deadline_left(const struct timespec *deadline)
{
	time_t now = monotonic_now().tv_sec;

	return deadline->tv_sec > now ? (unsigned)(deadline->tv_sec - now) : 1;
}

int deadline_left_ms(const struct timespec *deadline)
{
	int64_t left = left_ns(deadline);

	if (left <= 0)
		return 0;
	left = (left + NS_PER_MS - 1) / NS_PER_MS;
	return left > INT_MAX ? INT_MAX : (int)left;
}

void deadline_condition(pthread_cond_t *condition)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void pause_ms(unsigned ms)
{
	const struct timespec pause = { ms / MS_PER_SECOND, ms % MS_PER_SECOND * NS_PER_MS };

	nanosleep(&pause, NULL);
}
