/* A single device at rest: its image closed, its I/O held, until it is told to go on. */
#include "daemon/device.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "core/gate.h"
#include "daemon/client_pool.h"

#define DRAINED "drained; urbd resume lets it go on"

/* With the lock: waits until nobody works on it. */
static int find_idle(struct devices *devices, const char *path, const struct timespec *deadline,
		     struct device **ret, struct error *err)
{
	struct device *device;

	while ((device = find_path(devices, path)) &&
	       (device->state == DEVICE_MAPPING || device->state == DEVICE_RESIZING ||
		device->state == DEVICE_STOPPING))
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

/* Moves the device from live or drained to mapping. 1: it was as it is wanted already. */
static int begin(struct devices *devices, const char *path, bool drain,
		 const struct timespec *deadline, struct device **ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&devices->lock);
	r = find_idle(devices, path, deadline, ret, err);
	if (r == 0 && (drain ? is_drained(*ret) : (*ret)->state == DEVICE_LIVE))
		r = 1;
	else if (r == 0 && (drain ? (*ret)->state == DEVICE_LIVE : is_drained(*ret)))
		(*ret)->state = DEVICE_MAPPING;
	else if (r == 0)
		r = error_set(err, -EBUSY, "%s waits for its storage: %s.", path,
			      *(*ret)->reason ? (*ret)->reason : "see urbd status");
	pthread_mutex_unlock(&devices->lock);
	return r;
}

bool device_close_image(struct device *device, const struct timespec *deadline)
{
	struct error err = ERROR_NONE;

	gate_hold(device->gate);
	if (!gate_wait_idle(device->gate, deadline))
		return false;
	image_close(gate_take_inner(device->gate));
	client_pool_put(device->devices->config.clients, device->opened.client);
	device->opened.client = NULL;
	device->opened.rbd = NULL;
	device->opened.locked = device->former_held = false;
	*device->former = '\0';
	if (device_write_record(device, &err) < 0)
		log_warning("%s", err.text);
	return true;
}

int devices_drain(struct devices *devices, const char *path, unsigned timeout, json_t **ret,
		  struct error *err)
{
	struct timespec deadline = deadline_in(timeout);
	struct device *device;
	int r = begin(devices, path, true, &deadline, &device, err);

	if (r < 0)
		return r;
	if (r == 0 && !device_close_image(device, &deadline)) {
		gate_resume(device->gate, gate_take_inner(device->gate));
		set_state(device, DEVICE_LIVE);
		return error_set(err, -ETIMEDOUT,
				 "The storage of %s did not answer what was in flight within %u s; "
				 "the device goes on.",
				 path, timeout);
	}
	if (r == 0) {
		device_set_reason(device, DRAINED);
		log_info("%s is drained", path);
		set_state(device, DEVICE_QUIESCED);
	}
	*ret = json_pack("{s:s}", "device", path);
	return 0;
}

int devices_resume(struct devices *devices, const char *path, unsigned timeout, json_t **ret,
		   struct error *err)
{
	struct timespec deadline = deadline_in(timeout);
	struct map_request request;
	struct opened opened;
	struct device *device;
	int r = begin(devices, path, false, &deadline, &device, err);

	if (r < 0)
		return r;
	if (r == 0) {
		device_request(device, &request);
		request.timeout = deadline_left(&deadline);
		r = opener_open_claimed(devices->config.clients, &request, &opened, err);
		if (r == 0)
			r = device_attach(device, &request, &opened, err);
		if (r < 0) {
			set_state(device, DEVICE_QUIESCED);
			return error_prefix(err, "%s stays drained: ", path);
		}
		log_info("%s goes on", path);
	}
	*ret = json_pack("{s:s}", "device", path);
	return 0;
}
