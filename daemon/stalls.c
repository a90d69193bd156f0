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

/* NULL: it has none. As long as the lock is held. */
static struct rbd_client *client_of(const struct device *device)
{
	return device->opened.client ? pooled_client_rbd(device->opened.client) : NULL;
}

/* With the lock, of what look() has found. */
static bool is_stalled(const struct device *device, time_t now)
{
	return device->state == DEVICE_LIVE && device->stall.since != 0 &&
	       now - device->stall.since >= STALL_SECONDS;
}

/* With the lock. The one of which it is longest ago that somebody was told, or NULL. */
static struct device *find_stalled(struct devices *devices)
{
	struct device *stalled = NULL;
	time_t now = monotonic_now().tv_sec;

	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);

		if (device->state == DEVICE_LIVE && look(device, now) == 0)
			goes_on(device);
		else if (is_stalled(device, now) && now - device->stall.told_at >= TELL_SECONDS &&
			 (!stalled || device->stall.told_at < stalled->stall.told_at))
			stalled = device;
	}
	return stalled;
}

/* With the lock. */
static void tell(struct device *device, time_t now, const char *why)
{
	bool news = device->stall.told_at == 0;

	device->stall.told_at = now;
	snprintf(device->reason, sizeof(device->reason),
		 "its storage has answered nothing for %u s; %s",
		 (unsigned)(now - device->stall.since), why);
	if (news)
		log_warning("%s: %s", device->path, device->reason);
}

/* With the lock. What a client was told concerns all of its devices. */
static void tell_all(struct devices *devices, const struct rbd_client *client, const char *why)
{
	time_t now = monotonic_now().tv_sec;

	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);

		if (is_stalled(device, now) && client_of(device) == client)
			tell(device, now, why);
	}
}

/* With the lock, which it leaves meanwhile. */
static void ask_and_tell(struct devices *devices, struct rbd_client *client)
{
	char why[256];

	rbd_client_ref(client);
	pthread_mutex_unlock(&devices->lock);
	cluster_health(client, ASK_SECONDS, why, sizeof(why));
	pthread_mutex_lock(&devices->lock);
	tell_all(devices, client, why);
	pthread_mutex_unlock(&devices->lock);
	rbd_client_unref(client); /* the last one disconnects */
	pthread_mutex_lock(&devices->lock);
}

/* With the lock. */
static void tell_of(struct device *stalled)
{
	struct rbd_client *client = client_of(stalled);

	if (client)
		ask_and_tell(stalled->devices, client);
	else
		tell_all(stalled->devices, NULL, "nobody knows why");
}

static void *watcher_main(void *data)
{
	struct devices *devices = data;

	pthread_mutex_lock(&devices->lock);
	while (!devices->leaving) {
		struct timespec next = deadline_in(LOOK_SECONDS);
		struct device *stalled;

		while (!devices->leaving && (stalled = find_stalled(devices)))
			tell_of(stalled);
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
