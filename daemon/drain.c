/* A single device at rest: its image closed, its I/O held, until it is told to go on. */
#include "daemon/device.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "core/gate.h"
#include "daemon/client_pool.h"
#include "daemon/quiesce.h"

#define DRAINED "drained; urbd resume lets it go on"

/* With the lock: waits until nobody works on it. */
static int find_idle(struct devices *devices, const char *path, const struct timespec *deadline,
		     struct device **ret, struct error *err)
{
	struct device *device;

	while ((device = find_path(devices, path)) && (device_is_busy(device) || device->reopening))
		if (!wait_change(devices, deadline))
			return error_set(err, -ETIMEDOUT,
					 "Somebody else works on %s, and that did not end in time. "
					 "Try again.",
					 path);
	if (!device)
		return error_set(err, -ENXIO, "%s is not mapped.", path);
	*ret = device;
	return 0;
}

static bool is_drained(const struct device *device)
{
	return device->state == DEVICE_QUIESCED && device->frontend;
}

static int taken_away(const char *path, struct error *err)
{
	return error_set(err, -ECANCELED, "%s is being unmapped by force.", path);
}

/* Draining. */

static bool await_closed(struct device *device, const struct timespec *deadline)
{
	struct devices *devices = device->devices;
	bool closed;

	pthread_mutex_lock(&devices->lock);
	while (device->closing > 0 && atomic_load(&device->forcing) == 0 &&
	       wait_change(devices, deadline))
		;
	closed = device->closing == 0;
	pthread_mutex_unlock(&devices->lock);
	return closed;
}

/*
 * A client that is cut off cannot let the lock go, and what came back from it only waits: that must
 * not be taken for an end in order, after which anybody may have had the image.
 */
static bool is_cut_off(struct device *device, const struct timespec *deadline)
{
	if (atomic_load(&device->cut_off))
		return true;
	if (!opener_is_cut_off(&device->opened, deadline))
		return false;
	device_cut_off(device);
	return true;
}

/* The lock goes with the image, and may be anybody's before the record can say so. */
static int may_close(struct device *device, const struct timespec *deadline, struct error *ret_why)
{
	if (is_cut_off(device, deadline))
		return error_set(ret_why, -EAGAIN,
				 "The client of %s was cut off from the cluster; the device goes "
				 "on with another one. Try again.",
				 device->path);
	return device_give_lock(device, ret_why);
}

static void begin_close(struct device *device)
{
	struct opened old = { .image = gate_take_inner(device->gate),
			      .client = device->opened.client };

	device_close_aside(device, NULL, &old);
}

enum image_end device_close_image(struct device *device, const struct timespec *deadline,
				  struct error *ret_why)
{
	struct error err = ERROR_NONE;
	int r = quiesce_end(device->opened.image, device->path, deadline, &device->forcing,
			    ret_why);

	gate_hold(device->gate);
	if (r < 0 || !gate_wait_idle(device->gate, deadline, &device->forcing) ||
	    may_close(device, deadline, ret_why) < 0)
		return IMAGE_HELD;
	begin_close(device);
	if (!await_closed(device, deadline))
		return IMAGE_CLOSING;
	if (device_write_record(device, &err) < 0)
		log_warning("%s", err.text);
	return IMAGE_CLOSED;
}

void device_go_on(struct device *device)
{
	quiesce_go_on(device->opened.image);
	gate_resume(device->gate, gate_take_inner(device->gate));
	device_set_live(device);
}

/* Moves the device from live to mapping. 1: it is drained already. */
static int begin_drain(struct devices *devices, const char *path, const struct timespec *deadline,
		       struct device **ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&devices->lock);
	r = find_idle(devices, path, deadline, ret, err);
	if (r == 0 && is_drained(*ret))
		r = 1;
	else if (r == 0)
		r = (*ret)->state == DEVICE_LIVE ? 0 : device_refuse(*ret, err);
	if (r == 0)
		(*ret)->state = DEVICE_MAPPING;
	pthread_mutex_unlock(&devices->lock);
	return r;
}

static int go_on_undrained(struct device *device, unsigned timeout, const struct error *why,
			   struct error *err)
{
	if (atomic_load(&device->forcing) > 0)
		taken_away(device->path, err);
	else if (why->code < 0)
		*err = *why;
	else
		error_set(err, -ETIMEDOUT,
			  "The storage of %s did not answer what was in flight within %u s; the "
			  "device goes on.",
			  device->path, timeout);
	device_go_on(device);
	return err->code;
}

static int stay_closing(struct device *device, unsigned timeout, struct error *err)
{
	if (atomic_load(&device->forcing) > 0)
		taken_away(device->path, err);
	else
		error_set(
			err, -ETIMEDOUT,
			"The I/O of %s is held, but its storage did not let go of the image within "
			"%u s; it is drained when the storage does.",
			device->path, timeout);
	device_set_reason(device, DRAINED);
	set_state(device, DEVICE_QUIESCED);
	return err->code;
}

static int drain(struct device *device, unsigned timeout, const struct timespec *deadline,
		 struct error *err)
{
	struct error why = ERROR_NONE;

	switch (device_close_image(device, deadline, &why)) {
	case IMAGE_HELD:
		return go_on_undrained(device, timeout, &why, err);
	case IMAGE_CLOSING:
		return stay_closing(device, timeout, err);
	case IMAGE_CLOSED:
		break;
	}
	device_set_reason(device, DRAINED);
	log_info("%s is drained", device->path);
	set_state(device, DEVICE_QUIESCED);
	return 0;
}

int devices_drain(struct devices *devices, const char *path, unsigned timeout, json_t **ret,
		  struct error *err)
{
	struct timespec deadline = deadline_in(timeout);
	struct device *device;
	int r = begin_drain(devices, path, &deadline, &device, err);

	if (r == 0)
		r = drain(device, timeout, &deadline, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:s}", "device", path);
	return 0;
}

/* Resuming. The device stays quiesced until its image is open: an unmap by force may have it. */

/* 1: it is live already. */
static int begin_resume(struct devices *devices, const char *path, const struct timespec *deadline,
			struct device **ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&devices->lock);
	r = find_idle(devices, path, deadline, ret, err);
	if (r == 0 && (*ret)->state == DEVICE_LIVE)
		r = 1;
	else if (r == 0)
		r = is_drained(*ret) ? 0 : device_refuse(*ret, err);
	if (r == 0) {
		(*ret)->reopening = true;
		device_get(*ret);
	}
	pthread_mutex_unlock(&devices->lock);
	return r;
}

static void end_resume(struct device *device)
{
	struct devices *devices = device->devices;

	pthread_mutex_lock(&devices->lock);
	device->reopening = false;
	device_put(device);
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
}

static int resume(struct device *device, const struct timespec *deadline, struct error *err)
{
	struct client_pool *clients = device->devices->config.clients;
	struct map_request request;
	struct opened opened;
	int r;

	if (!await_closed(device, deadline))
		return error_set(err, -ETIMEDOUT,
				 "%s stays drained: its storage has not let go of the image yet.",
				 device->path);
	device_request(device, &request);
	request.timeout = deadline_left(deadline);
	r = opener_open_claimed(clients, &request, &opened, err);
	if (r < 0)
		return error_prefix(err, "%s stays drained: ", device->path);
	if (!device_claim(device, DEVICE_QUIESCED, NULL)) {
		opener_close(clients, &opened);
		return taken_away(device->path, err);
	}
	r = device_attach(device, &request, &opened, err);
	if (r < 0) {
		set_state(device, DEVICE_QUIESCED);
		return error_prefix(err, "%s stays drained: ", device->path);
	}
	log_info("%s goes on", device->path);
	return 0;
}

int devices_resume(struct devices *devices, const char *path, unsigned timeout, json_t **ret,
		   struct error *err)
{
	struct timespec deadline = deadline_in(timeout);
	struct device *device;
	int r = begin_resume(devices, path, &deadline, &device, err);

	if (r == 0) {
		r = resume(device, &deadline, err);
		end_resume(device);
	}
	if (r < 0)
		return r;
	*ret = json_pack("{s:s}", "device", path);
	return 0;
}
