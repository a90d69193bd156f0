#include "daemon/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool wait_change(struct devices *devices, const struct timespec *deadline)
{
	return pthread_cond_timedwait(&devices->changed, &devices->lock, deadline) != ETIMEDOUT;
}

static void devices_free(struct devices *devices)
{
	pthread_cond_destroy(&devices->changed);
	pthread_mutex_destroy(&devices->lock);
	free(devices);
}

static int start_threads(struct devices *devices)
{
	int r = replacer_start(devices);

	if (r < 0)
		return r;
	r = stalls_start(devices);
	if (r < 0)
		replacer_stop(devices);
	return r;
}

int devices_create(const struct devices_config *config, struct devices **ret, struct error *err)
{
	struct devices *devices = calloc(1, sizeof(*devices));
	int r;

	if (!devices)
		return error_set(err, -ENOMEM, "Out of memory.");
	devices->config = *config;
	list_init(&devices->table);
	pthread_mutex_init(&devices->lock, NULL);
	deadline_condition(&devices->changed);
	r = start_threads(devices);
	if (r < 0) {
		devices_free(devices);
		return error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	}
	*ret = devices;
	return 0;
}

void devices_destroy(struct devices *devices)
{
	if (!devices)
		return;
	stalls_stop(devices);
	replacer_stop(devices);
	devices_free(devices);
}

bool devices_trim(struct devices *devices, unsigned seconds)
{
	bool any = false;

	pthread_mutex_lock(&devices->lock);
	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);

		if (device->state != DEVICE_LIVE ||
		    !idleness_reached(&device->idleness, device->opened.image, seconds))
			continue;
		device->frontend->ops->trim(device->frontend);
		any = true;
	}
	pthread_mutex_unlock(&devices->lock);
	return any;
}

struct device *find_identity(struct devices *devices, const char *identity)
{
	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);

		if (*identity && strcmp(device->identity, identity) == 0)
			return device;
	}
	return NULL;
}

struct device *find_path(struct devices *devices, const char *path)
{
	list_for_each(entry, &devices->table) {
		struct device *device = list_entry(entry, struct device, entry);

		if (strcmp(device->path, path) == 0)
			return device;
	}
	return NULL;
}

static bool id_taken(struct devices *devices, unsigned id)
{
	list_for_each(entry, &devices->table)
		if (list_entry(entry, struct device, entry)->id == id)
			return true;
	return false;
}

void enter_table(struct devices *devices, struct device *device)
{
	while (id_taken(devices, device->id))
		device->id++;
	device->state = DEVICE_MAPPING;
	list_append(&devices->table, &device->entry);
}

void set_state(struct device *device, enum device_state state)
{
	pthread_mutex_lock(&device->devices->lock);
	device->state = state;
	if (state == DEVICE_LIVE && atomic_load(&device->cut_off))
		sweeper_wake(&device->devices->replacer); /* missed while somebody worked on it */
	pthread_cond_broadcast(&device->devices->changed);
	pthread_mutex_unlock(&device->devices->lock);
}

bool device_claim(struct device *device, enum device_state from, const struct opened *opened)
{
	struct devices *devices = device->devices;
	bool claimed;

	pthread_mutex_lock(&devices->lock);
	claimed = device->state == from && !devices->leaving;
	if (claimed && opened)
		device->opened = *opened;
	if (claimed)
		device->state = DEVICE_MAPPING;
	pthread_mutex_unlock(&devices->lock);
	return claimed;
}

void leave_table(struct device *device)
{
	pthread_mutex_lock(&device->devices->lock);
	list_remove(&device->entry);
	pthread_cond_broadcast(&device->devices->changed);
	pthread_mutex_unlock(&device->devices->lock);
}
