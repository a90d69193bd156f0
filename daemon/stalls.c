/*
 * Live devices whose storage does not answer: their I/O waits, and their `reason` tells people
 * since when, and what the cluster says about it.
 *
 * A thread looks at all of them every few seconds. Only what the data path counts anyway is read.
 */
#include "daemon/device.h"

#include <string.h>

#include "common/log.h"
#include "core/figures.h"
#include "daemon/client_pool.h"
#include "image/health.h"

#define LOOK_SECONDS  2
#define STALL_SECONDS 10 /* a cluster that lost an OSD takes its time */
#define TELL_SECONDS  10 /* between two questions about the same device */
#define ASK_SECONDS   5	 /* for the answer */

/* With the lock. Seconds for which it has had requests and no answer, 0: it goes on. */
static unsigned look(struct device *device, time_t now)
{
	const struct image *image = device->opened.image;
	struct stall *stall = &device->stall;
	uint64_t answered = figures_answered(image->figures);

	if (atomic_load(&image->in_flight) == 0 || answered != stall->answered) {
		stall->answered = answered;
		stall->since = 0;
		return 0;
	}
	if (stall->since == 0)
		stall->since = now;
	return (unsigned)(now - stall->since);
}

/* With the lock. */
static void goes_on(struct device *device)
{
	if (device->stall.told_at == 0)
		return;
	device->stall.told_at = 0;
	device->reason[0] = 0;
	log_info("%s: its storage answers again", device->path);
}

/* With the lock. The first one that somebody should be told about, or NULL. */
static struct device *find_stalled(struct devices *devices, unsigned *ret_seconds)
{
	struct device *stalled = NULL;
	time_t now = monotonic_now().tv_sec;

	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);
		unsigned seconds = device->state == DEVICE_LIVE ? look(device, now) : 0;

		if (device->state == DEVICE_LIVE && seconds == 0)
			goes_on(device);
		else if (!stalled && seconds >= STALL_SECONDS &&
			 now - device->stall.told_at >= TELL_SECONDS) {
			stalled = device;
			*ret_seconds = seconds;
		}
	}
	return stalled;
}

/* With the lock, which it leaves meanwhile: the device may be any other by then. */
static void ask_cluster(struct device *device, char *text, size_t size)
{
	struct devices *devices = device->devices;
	struct rbd_client *client;

	snprintf(text, size, "nobody knows why");
	if (!device->opened.client)
		return;
	client = rbd_client_ref(pooled_client_rbd(device->opened.client));
	pthread_mutex_unlock(&devices->lock);
	cluster_health(client, ASK_SECONDS, text, size);
	rbd_client_unref(client);
	pthread_mutex_lock(&devices->lock);
}

/* With the lock. */
static void tell(struct device *device, unsigned seconds)
{
	bool news = device->stall.told_at == 0;
	char why[256];

	device_get(device);
	device->stall.told_at = monotonic_now().tv_sec;
	ask_cluster(device, why, sizeof(why));
	if (device->state == DEVICE_LIVE && device->stall.since != 0) {
		snprintf(device->reason, sizeof(device->reason),
			 "its storage has answered nothing for %u s; %s", seconds, why);
		if (news)
			log_warning("%s: %s", device->path, device->reason);
	}
	device_put(device);
}

static void *watcher_main(void *data)
{
	struct devices *devices = data;

	pthread_mutex_lock(&devices->lock);
	while (!devices->leaving) {
		struct timespec next = deadline_in(LOOK_SECONDS);
		struct device *stalled;
		unsigned seconds;

		while (!devices->leaving && (stalled = find_stalled(devices, &seconds)))
			tell(stalled, seconds);
		while (!devices->leaving && wait_change(devices, &next))
			;
	}
	pthread_mutex_unlock(&devices->lock);
	return NULL;
}

int stalls_start(struct devices *devices)
{
	int r = -pthread_create(&devices->watcher, NULL, watcher_main, devices);

	if (r == 0)
		pthread_setname_np(devices->watcher, "urbd-stalls");
	return r;
}

void stalls_stop(struct devices *devices)
{
	pthread_mutex_lock(&devices->lock);
	devices->leaving = true;
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
	pthread_join(devices->watcher, NULL);
}
