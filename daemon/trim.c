#include "daemon/trim.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/deadline.h"
#include "core/figures.h"
#include "core/image.h"

/* It looks so many times within the time that makes an image idle. */
#define LOOKS 4

/*
 * malloc_trim() leaves the free end of each thread's arena, which glibc lets grow to twice the
 * largest block that was ever freed. Not beyond this, then. Blocks of an I/O stay in the arenas.
 */
#define HEAP_END_MAX   (4 << 20)
#define HEAP_BLOCK_MAX (4 << 20)

struct trimmer {
	unsigned seconds;
	struct devices *devices;
	struct exports *exports;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
};

bool idleness_reached(struct idleness *idleness, const struct image *image, unsigned seconds)
{
	uint64_t answered = figures_answered(image->figures);
	time_t now = monotonic_now().tv_sec;

	if (atomic_load(&image->in_flight) > 0 || answered != idleness->answered ||
	    idleness->since == 0) {
		*idleness = (struct idleness){ .answered = answered, .since = now };
		return false;
	}
	if (idleness->told || now - idleness->since < (time_t)seconds)
		return false;
	idleness->told = true;
	return true;
}

static void look(struct trimmer *trimmer)
{
	bool devices = devices_trim(trimmer->devices, trimmer->seconds);
	bool exports = exports_trim(trimmer->exports, trimmer->seconds);

	if (devices || exports)
		malloc_trim(0);
}

/* False when the time has come to end. */
static bool wait_next(struct trimmer *trimmer)
{
	struct timespec next = deadline_in(MAX(1u, trimmer->seconds / LOOKS));
	int r = 0;
	bool stop;

	pthread_mutex_lock(&trimmer->lock);
	while (!trimmer->stop && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&trimmer->wake, &trimmer->lock, &next);
	stop = trimmer->stop;
	pthread_mutex_unlock(&trimmer->lock);
	return !stop;
}

static void *trimmer_main(void *data)
{
	while (wait_next(data))
		look(data);
	return NULL;
}

static void trimmer_free(struct trimmer *trimmer)
{
	pthread_cond_destroy(&trimmer->wake);
	pthread_mutex_destroy(&trimmer->lock);
	free(trimmer);
}

int trimmer_start(unsigned seconds, struct devices *devices, struct exports *exports,
		  struct trimmer **ret, struct error *err)
{
	struct trimmer *trimmer = calloc(1, sizeof(*trimmer));
	int r;

	if (!trimmer)
		return error_set(err, -ENOMEM, "Out of memory.");
	mallopt(M_TRIM_THRESHOLD, HEAP_END_MAX);
	mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_MAX);
	trimmer->seconds = seconds;
	trimmer->devices = devices;
	trimmer->exports = exports;
	pthread_mutex_init(&trimmer->lock, NULL);
	deadline_condition(&trimmer->wake);
	r = -pthread_create(&trimmer->thread, NULL, trimmer_main, trimmer);
	if (r < 0) {
		trimmer_free(trimmer);
		return error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	}
	pthread_setname_np(trimmer->thread, "urbd-trimmer");
	*ret = trimmer;
	return 0;
}

void trimmer_stop(struct trimmer *trimmer)
{
	if (!trimmer)
		return;
	pthread_mutex_lock(&trimmer->lock);
	trimmer->stop = true;
	pthread_cond_signal(&trimmer->wake);
	pthread_mutex_unlock(&trimmer->lock);
	pthread_join(trimmer->thread, NULL);
	trimmer_free(trimmer);
}
