/*
 * The end of a daemon that another one will follow: every device is left in the kernel, its I/O
 * held there, its image closed and its record telling that nobody has it open.
 */
#include "daemon/device.h"

#include "common/log.h"
#include "common/thread.h"

#define LEAVE_AT_ONCE 64

struct leaver {
	struct device *device;
	const struct timespec *deadline;
};

/* What the image has not answered by the deadline, or holds in its cache, may be stored later: its
 * client stays in the record, to be fenced. */
static void leave_device(struct device *device, const struct timespec *deadline)
{
	struct error why = ERROR_NONE;

	if (device_close_image(device, deadline, &why) == IMAGE_CLOSED)
		log_info("%s waits in the kernel for the next urbdd", device->path);
	else if (why.code < 0)
		log_warning("%s is left to the next urbdd: %s", device->path, why.text);
	else
		log_warning("%s: the storage does not answer; its requests are left to the next "
			    "urbdd.",
			    device->path);
}

static void *leaver_main(void *data)
{
	struct leaver *leaver = data;

	leave_device(leaver->device, leaver->deadline);
	return NULL;
}

/* With the lock: moves what is live to `stopping`, and counts it. */
static unsigned claim_live(struct devices *devices, struct leaver *leavers, unsigned max,
			   const struct timespec *deadline)
{
	unsigned count = 0;

	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);

		if (device->state != DEVICE_LIVE || count == max)
			continue;
		device->state = DEVICE_STOPPING;
		leavers[count++] = (struct leaver){ .device = device, .deadline = deadline };
	}
	return count;
}

/* With the lock, which it lets go of meanwhile. */
static unsigned leave_some(struct devices *devices, const struct timespec *deadline)
{
	struct leaver leavers[LEAVE_AT_ONCE];
	unsigned count = claim_live(devices, leavers, LEAVE_AT_ONCE, deadline);

	pthread_mutex_unlock(&devices->lock);
	threads_for_each(leaver_main, leavers, sizeof(leavers[0]), count);
	pthread_mutex_lock(&devices->lock);
	return count;
}

/* With the lock. Somebody maps, unmaps or resizes it, which will end. */
static bool is_busy(struct devices *devices)
{
	list_for_each(entry, &devices->table) {
		enum device_state state = list_entry(entry, struct device, entry)->state;

		if (state == DEVICE_MAPPING || state == DEVICE_RESIZING)
			return true;
	}
	return list_empty(&devices->table) && devices->releasing > 0;
}

static unsigned table_size(struct devices *devices)
{
	unsigned count = 0;

	list_for_each(entry, &devices->table)
		count++;
	return count;
}

unsigned devices_leave(struct devices *devices, const struct timespec *deadline)
{
	unsigned left;

	if (!devices)
		return 0;
	pthread_mutex_lock(&devices->lock);
	devices->leaving = true;
	pthread_cond_broadcast(&devices->changed);
	do { /* a device that was being mapped may have become live meanwhile */
		while (leave_some(devices, deadline) > 0)
			;
	} while (is_busy(devices) && wait_change(devices, deadline));
	left = table_size(devices);
	left += left == 0 ? devices->releasing : 0;
	pthread_mutex_unlock(&devices->lock);
	return left;
}
