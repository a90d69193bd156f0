/*
 * Settings of a device's image, changed while it is mapped. The device stays live while the cluster
 * is asked, and is blocked while its image is opened: an unmap by force may have it.
 */
#include "daemon/device.h"

#include <errno.h>

#include "common/log.h"
#include "control/client.h"
#include "daemon/settings.h"

/* With the lock. */
static int check_live(const struct device *device, struct error *err)
{
	return device->state == DEVICE_LIVE ? 0 : device_refuse(device, err);
}

static int too_late(struct error *err)
{
	return error_set(err, -ETIMEDOUT,
			 "Somebody else works on it, and that did not end in time. Try again.");
}

static int taken_away(const struct device *device, struct error *err)
{
	return error_set(err, -ECANCELED, "%s is being unmapped by force, or urbdd ends.",
			 device->path);
}

/* Waits until nobody works on it, and is the only one that changes it. */
static int begin(struct devices *devices, const struct unmap_request *request,
		 const struct timespec *deadline, struct device **ret, struct error *err)
{
	struct device *device;
	int r = 0;

	pthread_mutex_lock(&devices->lock);
	while (r == 0 && (device = find_named(devices, request, err)) &&
	       (device_is_busy(device) || device->reopening))
		if (!wait_change(devices, deadline))
			r = too_late(err);
	if (r == 0)
		r = device ? check_live(device, err) : err->code;
	if (r == 0) {
		device->reopening = true;
		device_get(device);
		*ret = device;
	}
	pthread_mutex_unlock(&devices->lock);
	return r;
}

static void end(struct device *device)
{
	struct devices *devices = device->devices;

	pthread_mutex_lock(&devices->lock);
	device->reopening = false;
	pthread_cond_broadcast(&devices->changed);
	device_put(device);
	pthread_mutex_unlock(&devices->lock);
}

/* From live to mapping. */
static int claim(struct device *device, const struct timespec *deadline, struct error *err)
{
	struct devices *devices = device->devices;
	int r = 0;

	pthread_mutex_lock(&devices->lock);
	while (r == 0 && (device->state == DEVICE_RESIZING || device->state == DEVICE_MAPPING))
		if (!wait_change(devices, deadline))
			r = too_late(err);
	if (r == 0 && (device->state == DEVICE_STOPPING || devices->leaving))
		r = taken_away(device, err);
	if (r == 0)
		r = check_live(device, err);
	if (r == 0)
		device->state = DEVICE_MAPPING;
	pthread_mutex_unlock(&devices->lock);
	return r;
}

static void set_settings(struct device *device, json_t *settings)
{
	pthread_mutex_lock(&device->devices->lock);
	json_object_set(device->access, "settings", settings);
	pthread_mutex_unlock(&device->devices->lock);
}

/* The image is closed, and the device the caller's. In the end it is not, and goes on by itself. */
static int reopen(struct device *device, json_t *before, json_t *after,
		  const struct timespec *deadline, struct error *err)
{
	struct opener_tries first = { 0 };
	struct map_request request;
	int r;

	set_settings(device, after);
	device_request(device, &request);
	request.timeout = deadline_left(deadline);
	device->shared = !*device->former; /* who shares the image may have it, as before */
	if (device->shared)
		request.former_client = NULL;
	device_set_reason(device, "its settings are being changed");
	set_state(device, DEVICE_BLOCKED);
	r = device_reopen(device, &request, &first, err);
	if (r == -ECANCELED)
		return taken_away(device, err);
	if (r < 0) {
		set_settings(device, before);
		error_prefix(err, "Nothing is changed: ");
		device_await_image(device);
	}
	return r;
}

static int go_on_held(struct device *device, const struct error *why, struct error *err)
{
	if (atomic_load(&device->forcing) > 0)
		taken_away(device, err);
	else if (why->code < 0)
		*err = *why;
	else
		settings_refuse_busy(err);
	device_go_on(device);
	return err->code;
}

static int stay_closing(struct device *device, struct error *err)
{
	error_set(
		err, -ETIMEDOUT,
		"Nothing is changed, and the I/O of %s is held: its storage did not let go of the "
		"image in time. The device goes on by itself when the storage does.",
		device->path);
	device_set_reason(device, "its storage does not let go of the image");
	set_state(device, DEVICE_BLOCKED);
	device_await_image(device);
	return err->code;
}

/* Of a device that is the caller's, and is not in the end. */
static int carry_out(struct device *device, json_t *after, const struct timespec *deadline,
		     struct error *err)
{
	cleanup_json json_t *before = settings_of(device->access);
	struct error why = ERROR_NONE;

	switch (device_close_image(device, deadline, &why)) {
	case IMAGE_HELD:
		return go_on_held(device, &why, err);
	case IMAGE_CLOSING:
		return stay_closing(device, err);
	case IMAGE_CLOSED:
		break;
	}
	return reopen(device, before, after, deadline, err);
}

static int change(struct device *device, json_t *changes, const struct timespec *deadline,
		  struct error *err)
{
	struct client_pool *clients = device->devices->config.clients;
	struct map_request request;
	struct settings_plan plan;
	int r;

	device_request(device, &request);
	request.timeout = deadline_left(deadline);
	r = settings_plan(clients, &request, changes, &plan, err);
	if (r < 0)
		return r;
	if (plan.changes)
		r = claim(device, deadline, err);
	if (plan.changes && r == 0)
		r = carry_out(device, plan.settings, deadline, err);
	settings_plan_end(clients, &plan);
	return r;
}

int devices_set(struct devices *devices, const struct unmap_request *request, json_t *changes,
		json_t **ret, struct error *err)
{
	struct timespec deadline = deadline_in(request->timeout);
	struct device *device = NULL;
	int r = begin(devices, request, &deadline, &device, err);

	if (r < 0)
		return r;
	r = change(device, changes, &deadline, err);
	if (r == 0) {
		log_info("%s has the settings that were asked for", device->path);
		*ret = json_pack("{s:s, s:o}", "device", device->path, "settings",
				 settings_of(device->access));
	}
	end(device);
	return r;
}
