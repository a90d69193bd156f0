/*
 * An image that changed under its device: where it has another size the device follows, if its
 * frontend can; where it was removed the device fails. The news comes on a thread of the image,
 * which must not wait; so a thread for each piece of news carries it out.
 */
#include "daemon/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "core/gate.h"

#define SECTOR	       512
#define LOST_GRACE     5 /* seconds in which an image that is gone may still answer */
#define LOST_STOP      30
#define FOLLOW_TIMEOUT 30 /* seconds to wait for a map that is under way */

static bool is_in_table(struct devices *devices, const struct device *device)
{
	list_for_each(entry, &devices->table)
		if (list_entry(entry, struct device, entry) == device)
			return true;
	return false;
}

/*
 * With the lock. Makes the caller the one that works on the device; false if it goes away instead,
 * or somebody works on it for long, who will look at its size then.
 */
static bool claim(struct devices *devices, struct device *device)
{
	struct timespec deadline = deadline_in(FOLLOW_TIMEOUT);

	while (is_in_table(devices, device)) {
		if (device->state == DEVICE_LIVE) {
			device->state = DEVICE_RESIZING;
			return true;
		}
		if (device->state == DEVICE_STOPPING || device->state == DEVICE_FAILED ||
		    !wait_change(devices, &deadline))
			return false;
	}
	return false;
}

/*
 * What librbd has in flight it may never answer: it waits for the exclusive lock, which was in the
 * image. The frontend can answer for it only by taking the block device away.
 */
static void lose(struct device *device)
{
	struct timespec patience = deadline_in(LOST_GRACE);
	struct error err = ERROR_NONE;

	gate_fail(device->gate);
	if (!gate_wait_idle(device->gate, &patience, &device->forcing) &&
	    device->frontend->ops->stop(device->frontend, true, LOST_STOP, &err) < 0)
		log_error("%s: %s", device->path, err.text);
	device_fail(device, IMAGE_GONE);
}

static void resize(struct device *device)
{
	struct frontend *frontend = device->frontend;
	uint64_t size = atomic_load(&device->opened.image->info.size);
	struct error err = ERROR_NONE;

	if (device_kernel_size(device->path) / SECTOR == size / SECTOR) {
		log_debug("%s has the size of its image", device->path);
	} else if (frontend->ops->resize(frontend, size, &err) < 0) {
		error_prefix(
			&err,
			"It keeps its old size, and its image has %" PRIu64 " bytes now: ", size);
		log_warning("%s: %s", device->path, err.text);
	} else {
		log_info("%s has %" PRIu64 " bytes now", device->path, size);
	}
	device_set_reason(device, err.text);
	set_state(device, DEVICE_LIVE);
}

struct news {
	struct devices *devices;
	struct device *device; /* may be gone: compared with the table before it is looked at */
};

static void *follow_main(void *data)
{
	struct news news = *(struct news *)data;
	bool claimed;

	free(data);
	pthread_mutex_lock(&news.devices->lock);
	claimed = claim(news.devices, news.device);
	if (is_in_table(news.devices, news.device))
		news.device->resize_due = false;
	pthread_mutex_unlock(&news.devices->lock);
	if (claimed && atomic_load(&news.device->opened.image->info.gone))
		lose(news.device);
	else if (claimed)
		resize(news.device);
	pthread_mutex_lock(&news.devices->lock);
	news.devices->releasing--;
	pthread_cond_broadcast(&news.devices->changed);
	pthread_mutex_unlock(&news.devices->lock);
	return NULL;
}

uint64_t device_kernel_size(const char *path)
{
	unsigned long long sectors = 0;
	char name[64];
	FILE *file;

	snprintf(name, sizeof(name), "/sys/block/%s/size", path + strlen("/dev/"));
	file = fopen(name, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &sectors) != 1)
		sectors = 0;
	fclose(file);
	return sectors * SECTOR;
}

void device_set_live(struct device *device)
{
	struct devices *devices = device->devices;
	struct image *image = device->opened.image;
	uint64_t size = atomic_load(&image->info.size);

	if (atomic_load(&image->info.gone) ||
	    device_kernel_size(device->path) / SECTOR != size / SECTOR)
		device_image_changed(image, device);
	set_state(device, DEVICE_LIVE);
	sweeper_wake(&devices->replacer); /* it may have been cut off when it was not live */
}

void device_image_changed(struct image *image, void *data)
{
	struct device *device = data;
	struct devices *devices = device->devices;
	struct news *news = malloc(sizeof(*news));

	if (!news) {
		log_error("Out of memory: a device does not follow a change of its image.");
		return;
	}
	*news = (struct news){ devices, device };
	pthread_mutex_lock(&devices->lock);
	if (device->resize_due) {
		pthread_mutex_unlock(&devices->lock);
		free(news);
		return;
	}
	device->resize_due = true;
	devices->releasing++; /* the table must outlive the thread */
	pthread_mutex_unlock(&devices->lock);
	if (thread_detached(follow_main, news) < 0)
		follow_main(news);
}
