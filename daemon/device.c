#include "daemon/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "common/thread.h"
#include "core/gate.h"
#include "daemon/access.h"
#include "daemon/records.h"

void device_free(struct device *device)
{
	json_decref(device->names);
	json_decref(device->access);
	free(device);
}

void device_names(const struct device *device, struct image_names *ret)
{
	access_names(device->names, ret);
}

void device_spec(const struct device *device, char *buffer)
{
	struct image_names names;

	device_names(device, &names);
	image_names_format(&names, buffer, DEVICE_SPEC_MAX);
}

struct frontend_mark device_mark(const struct device *device)
{
	return (struct frontend_mark){ device->identity,
				       records_owner(device->devices->config.records) };
}

void device_request(const struct device *device, struct map_request *ret)
{
	access_request(device->names, device->access, ret);
	ret->read_only = device->read_only;
	ret->identity = device->identity;
	ret->former_client = device->former;
	ret->former_held = device->former_held;
}

const char *device_quiesce_hook(const struct device *device)
{
	return access_quiesce_hook(device->access);
}

int device_new(struct devices *devices, const struct map_request *request, struct device **ret,
	       struct error *err)
{
	struct device *device = calloc(1, sizeof(*device));

	if (!device)
		return error_set(err, -ENOMEM, "Out of memory.");
	device->devices = devices;
	device->references = 1;
	device->read_only = request->read_only;
	list_init(&device->entry);
	device->names = access_pack_names(&request->names);
	device->access = access_pack(request);
	if (!device->names || !device->access) {
		device_free(device);
		return error_set(err, -ENOMEM, "Out of memory.");
	}
	*ret = device;
	return 0;
}

struct device *device_restore(struct devices *devices, const char *path, json_t *record)
{
	struct device *device = calloc(1, sizeof(*device));

	if (!device)
		return NULL;
	device->devices = devices;
	device->references = 1;
	list_init(&device->entry);
	snprintf(device->path, sizeof(device->path), "%s", path);
	snprintf(device->identity, sizeof(device->identity), "%s",
		 json_string_value(json_object_get(record, "identity")));
	device->read_only = json_is_true(json_object_get(record, "read_only"));
	device->names = json_incref(json_object_get(record, "names"));
	device->access = json_incref(json_object_get(record, "access"));
	device->id = (unsigned)json_integer_value(json_object_get(record, "id"));
	snprintf(device->former, sizeof(device->former), "%s",
		 json_string_value(json_object_get(record, "client_address")) ?: "");
	device->former_held = json_is_true(json_object_get(record, "lock_held"));
	return device;
}

int device_refuse(const struct device *device, struct error *err)
{
	const char *reason = *device->reason ? device->reason : "see urbd status";

	return error_set(err, -EBUSY, "%s %s: %s%s", device->path,
			 device->state == DEVICE_FAILED ? "has failed" : "waits for its storage",
			 reason, text_stop(reason));
}

void device_fail(struct device *device, const char *why)
{
	log_error("%s fails: %s", device->path, why);
	device_set_reason(device, why);
	gate_fail(device->gate);
	set_state(device, DEVICE_FAILED);
}

void device_put(struct device *device)
{
	if (--device->references == 0)
		device_free(device);
}

/* Whoever follows is to know that the image was closed in order, which lets the lock go. */
static void keep_record(struct device *device)
{
	struct error err = ERROR_NONE;

	log_error("The kernel does not let go of %s; its record is kept.", device->path);
	if (device_give_lock(device, &err) < 0)
		log_warning("%s", err.text);
}

/* What the kernel has of it, then the record of that. */
static void detach(struct device *device)
{
	struct devices *devices = device->devices;
	struct frontend *frontend = device->frontend;

	if (frontend && !frontend->ops->detach(frontend))
		keep_record(device);
	else if (frontend && device->record)
		record_remove(devices->config.records, frontend->device, device->record);
	pthread_mutex_lock(&devices->lock);
	device->detached = true;
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
}

static void *release_main(void *data)
{
	struct device *device = data;
	struct devices *devices = device->devices;

	detach(device);
	if (device->frontend)
		device->frontend->ops->destroy(device->frontend);
	opener_close(devices->config.clients, &device->opened);
	pthread_mutex_lock(&devices->lock);
	device->released = true;
	devices->releasing--;
	pthread_cond_broadcast(&devices->changed);
	device_put(device);
	pthread_mutex_unlock(&devices->lock);
	return NULL;
}

static void start_release(struct device *device)
{
	if (thread_detached(release_main, device) < 0)
		release_main(device);
}

bool device_release(struct device *device, const struct timespec *deadline,
		    const struct timespec *image_deadline)
{
	struct devices *devices = device->devices;
	bool released;

	pthread_mutex_lock(&devices->lock);
	device_get(device);
	devices->releasing++;
	pthread_mutex_unlock(&devices->lock);
	start_release(device);
	pthread_mutex_lock(&devices->lock);
	while (!device->detached && wait_change(devices, deadline))
		;
	while (!device->released && wait_change(devices, image_deadline))
		;
	released = device->released;
	device_put(device);
	pthread_mutex_unlock(&devices->lock);
	return released;
}

struct aside {
	struct devices *devices;
	struct device *device;	   /* a reference, or NULL */
	struct frontend *frontend; /* whose memory the image may use; or NULL */
	struct opened opened;
};

static void *aside_main(void *data)
{
	struct aside *aside = data;
	struct devices *devices = aside->devices;

	if (aside->frontend)
		aside->frontend->ops->destroy(aside->frontend);
	opener_close(devices->config.clients, &aside->opened);
	pthread_mutex_lock(&devices->lock);
	if (aside->device) {
		aside->device->closing--;
		device_put(aside->device);
	}
	devices->releasing--;
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
	free(aside);
	return NULL;
}

/* With the lock, which the thread needs before it can count down. False: all of it stays open. */
static bool start_aside(struct devices *devices, const struct aside *todo)
{
	struct aside *aside = malloc(sizeof(*aside));

	if (aside)
		*aside = *todo;
	if (!aside || thread_detached(aside_main, aside) < 0) {
		log_error("No thread can be had to close an image: it stays open.");
		free(aside);
		return false;
	}
	devices->releasing++;
	return true;
}

void close_aside(struct devices *devices, struct opened *opened)
{
	const struct aside todo = { .devices = devices, .opened = *opened };

	if (opened->image || opened->client)
		(void)start_aside(devices, &todo);
	*opened = (struct opened){ 0 };
}

void device_close_aside(struct device *device, struct frontend *frontend, struct opened *opened)
{
	struct devices *devices = device->devices;
	const struct aside todo = { devices, device, frontend, *opened };

	pthread_mutex_lock(&devices->lock);
	device_set_opened(device, &(struct opened){ 0 });
	device->closing++;
	if (start_aside(devices, &todo))
		device_get(device);
	pthread_mutex_unlock(&devices->lock);
	*opened = (struct opened){ 0 };
}
