#include "daemon/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "core/gate.h"
#include "daemon/frontends.h"
#include "daemon/in_use.h"
#include "daemon/records.h"

/* How a device is taken away: only if nobody uses it, or whoever does. */
enum stop_mode { STOP_UNUSED, STOP_FORCED };

/* Seconds that an unmap by force waits for the image, once the kernel has nothing of the device. */
#define FORCED_CLOSE 4

/* Seconds within which a device that answers can be opened; an unmap by force waits for that. */
#define CHECK_MAX 8

static int not_mapped(const struct unmap_request *request, struct error *err)
{
	char spec[DEVICE_SPEC_MAX];

	if (request->device)
		return error_set(err, -ENXIO, "%s is not mapped.", request->device);
	image_names_format(&request->names, spec, sizeof(spec));
	return error_set(err, -ENXIO, "%s is not mapped.", spec);
}

struct device *find_named(struct devices *devices, const struct unmap_request *request,
			  struct error *err)
{
	struct device *found = NULL;

	if (request->device)
		found = find_path(devices, request->device);
	else
		list_for_each(entry, &devices->table) {
			struct device *device = list_entry(entry, struct device, entry);
			struct image_names names;

			device_names(device, &names);
			if (!image_names_equal(&names, &request->names))
				continue;
			if (found) {
				error_set(
					err, -ENOTUNIQ,
					"Several devices bear that name. Name the device instead; "
					"`urbd list` shows them.");
				return NULL;
			}
			found = device;
		}
	if (!found)
		not_mapped(request, err);
	return found;
}

/* With the lock. Its I/O waits for an image: to stop it is to lose that. */
static int check_not_waiting(const struct device *device, struct error *err)
{
	bool waits = device->state == DEVICE_QUIESCED || device->state == DEVICE_BLOCKED ||
		     !device->frontend || device->frontend->stranded;

	if (!waits)
		return 0;
	if (device->state == DEVICE_QUIESCED && device->frontend)
		return error_set(err, -EBUSY,
				 "%s is drained. Let it go on first (urbd resume %s), or unmap it "
				 "with --force; data not written yet is lost then.",
				 device->path, device->path);
	return error_set(err, -EBUSY,
			 "%s waits for its image (%s). Unmap it with --force; data not written yet "
			 "is lost.",
			 device->path, *device->reason ? device->reason : "being opened");
}

/* With the lock. By force: who works on it is told to give way, if it can. */
static bool wait_for(struct device *device, bool force, const struct timespec *deadline)
{
	struct devices *devices = device->devices;
	bool changed;

	device_get(device);
	if (force && atomic_fetch_add(&device->forcing, 1) == 0)
		pthread_cond_broadcast(&devices->changed);
	changed = wait_change(devices, deadline);
	if (force)
		atomic_fetch_sub(&device->forcing, 1);
	device_put(device);
	return changed;
}

/* With the lock: makes the caller the one that stops the device, which was in state *ret_was. */
static int begin_stop(struct devices *devices, const struct unmap_request *request,
		      const struct timespec *deadline, struct device **ret,
		      enum device_state *ret_was, struct error *err)
{
	struct device *device;

	while ((device = find_named(devices, request, err)) &&
	       (device_is_busy(device) || (device->reopening && !request->force)))
		if (!wait_for(device, request->force, deadline))
			return error_set(
				err, -ETIMEDOUT,
				"It is being mapped or unmapped by somebody else, and that did "
				"not end in time. Try again.");
	if (!device)
		return err->code;
	if (!request->force && check_not_waiting(device, err) < 0)
		return err->code;
	*ret_was = device->state;
	device->state = DEVICE_STOPPING;
	*ret = device;
	return 0;
}

static int try_stop(struct device *device, enum stop_mode mode, const struct timespec *deadline,
		    struct error *err)
{
	struct frontend *frontend = device->frontend;
	bool check = mode == STOP_UNUSED && !frontend->ending;
	unsigned seconds = MIN(deadline_left(deadline), CHECK_MAX);
	int r = check ? device_check_unused(device->path, seconds, err) : 0;

	if (r < 0)
		return r;
	if (mode == STOP_FORCED)
		gate_fail(device->gate);
	return frontend->ops->stop(frontend, mode == STOP_FORCED, deadline_left(deadline), err);
}

/* Taken from the kernel by force already, because its image is gone: nothing is left to be lost. */
static bool is_lost(const struct device *device)
{
	return device->frontend->ending && atomic_load(&device->opened.image->info.gone);
}

/* Callers take -ENXIO for "not mapped", and the kernel may give it of a device that is. */
static int stop_frontend(struct device *device, enum stop_mode mode,
			 const struct timespec *deadline, struct error *err)
{
	int r = try_stop(device, mode, deadline, err);

	if (r == -ENXIO)
		r = err->code = -EIO;
	return r;
}

/* By force its requests were failed at the gate: there is no way back. */
static void stop_failed(struct device *device, enum stop_mode mode, enum device_state was)
{
	if (device->frontend->ending || mode == STOP_FORCED)
		set_state(device, DEVICE_FAILED);
	else if (was == DEVICE_LIVE)
		device_set_live(device);
	else
		set_state(device, was);
}

/* Not served: the kernel holds it and its I/O. */
static int stop_unserved(struct device *device, struct error *err)
{
	struct devices *devices = device->devices;
	const struct frontend_ops *ops = frontend_of_path(device->path);
	const struct frontend_mark mark = device_mark(device);
	int r = ops->discard(frontend_number_of(device->path), &mark, err);

	if (r < 0) {
		device_set_reason(device, err->text);
		set_state(device, DEVICE_FAILED);
		return r == -ENXIO ? (err->code = -EIO) : r;
	}
	record_forget(devices->config.records, device->path);
	leave_table(device);
	log_info("%s is removed, unserved", device->path);
	pthread_mutex_lock(&devices->lock);
	device_put(device);
	pthread_mutex_unlock(&devices->lock);
	return 0;
}

/* The caller has moved the device from state @was to `stopping`. */
static int stop_device(struct device *device, enum stop_mode mode, enum device_state was,
		       const struct timespec *deadline, struct error *err)
{
	char spec[DEVICE_SPEC_MAX], path[sizeof(device->path)];
	struct timespec moment;
	int r;

	if (!device->frontend)
		return stop_unserved(device, err);
	device_spec(device, spec);
	memcpy(path, device->path, sizeof(path));
	if (is_lost(device))
		mode = STOP_FORCED;
	r = stop_frontend(device, mode, deadline, err);
	if (r < 0) {
		stop_failed(device, mode, was);
		return r;
	}
	leave_table(device);
	moment = deadline_in(FORCED_CLOSE);
	if (!device_release(device, deadline, mode == STOP_FORCED ? &moment : deadline))
		log_warning("%s (%s): its storage does not let go of the image yet", path, spec);
	log_info("%s (%s) is unmapped%s", path, spec, mode == STOP_FORCED ? ", forced" : "");
	return 0;
}

/* The path is not in the table, as @err says; the kernel may have it all the same, unserved. */
static int unmap_orphan(const struct unmap_request *request, json_t **ret, struct error *err)
{
	const struct frontend_ops *ops = frontend_of_path(request->device);
	int number = frontend_number_of(request->device), r;

	if (!ops || number < 0 || !ops->orphan(number))
		return err->code;
	if (!request->force)
		return error_set(
			err, -EBUSY,
			"%s waits in the kernel for a urbdd that died, and there is no "
			"record of it. Unmap it with --force; data not written yet is lost.",
			request->device);
	r = ops->discard(number, NULL, err);
	if (r < 0)
		return r == -ENXIO ? (err->code = -EIO) : r;
	log_info("%s, of which there was no record, is removed", request->device);
	*ret = json_pack("{s:s}", "device", request->device);
	return 0;
}

int devices_unmap(struct devices *devices, const struct unmap_request *request, json_t **ret,
		  struct error *err)
{
	struct timespec deadline = deadline_in(request->timeout);
	struct device *device = NULL;
	enum device_state was = DEVICE_LIVE;
	json_t *result = NULL;
	int r;

	pthread_mutex_lock(&devices->lock);
	r = begin_stop(devices, request, &deadline, &device, &was, err);
	if (r == 0)
		result = json_pack("{s:s}", "device", device->path);
	pthread_mutex_unlock(&devices->lock);
	if (r == -ENXIO && request->device)
		return unmap_orphan(request, ret, err);
	if (r < 0)
		return r;
	r = stop_device(device, request->force ? STOP_FORCED : STOP_UNUSED, was, &deadline, err);
	if (r < 0)
		json_decref(result);
	else
		*ret = result;
	return r;
}

/* All of them. */

struct unmapper {
	struct devices *devices;
	struct unmap_request request;
	char path[32];
	struct error err;
	int result;
};

static void *unmapper_main(void *data)
{
	struct unmapper *unmapper = data;
	json_t *gone = NULL;

	unmapper->result =
		devices_unmap(unmapper->devices, &unmapper->request, &gone, &unmapper->err);
	if (unmapper->result == -ENXIO)
		unmapper->result = 0; /* somebody else was faster */
	json_decref(gone);
	return NULL;
}

/* With the lock. A new array of *ret_count, one a device that has a path; NULL: out of memory. */
static struct unmapper *list_all(struct devices *devices, const struct unmap_request *request,
				 unsigned *ret_count)
{
	struct unmapper *list;
	unsigned count = 0;

	list_for_each(entry, &devices->table)
		count++;
	list = calloc(count + 1, sizeof(*list));
	*ret_count = 0;
	if (!list)
		return NULL;
	list_for_each(entry, &devices->table) {
		struct unmapper *unmapper = &list[*ret_count];
		struct device *device = list_entry(entry, struct device, entry);

		if (!*device->path)
			continue;
		memcpy(unmapper->path, device->path, sizeof(unmapper->path));
		unmapper->devices = devices;
		unmapper->request = *request;
		unmapper->request.device = unmapper->path;
		(*ret_count)++;
	}
	return list;
}

/* Sentences that begin with the device name it already. */
static int first_failure(const struct unmapper *unmapper, struct error *err)
{
	*err = unmapper->err;
	if (strncmp(err->text, unmapper->path, strlen(unmapper->path)) == 0)
		return err->code;
	return error_prefix(err, "%s: ", unmapper->path);
}

int devices_unmap_all(struct devices *devices, const struct unmap_request *request, json_t **ret,
		      struct error *err)
{
	json_t *gone = json_array();
	struct unmapper *list;
	unsigned count;
	int r = 0;

	pthread_mutex_lock(&devices->lock);
	list = list_all(devices, request, &count);
	pthread_mutex_unlock(&devices->lock);
	if (!list || !gone) {
		json_decref(gone);
		free(list);
		return error_set(err, -ENOMEM, "Out of memory.");
	}
	threads_for_each(unmapper_main, list, sizeof(*list), count);
	for (unsigned i = 0; i < count; i++) {
		if (list[i].result == 0)
			json_array_append_new(gone, json_string(list[i].path));
		else if (r == 0)
			r = first_failure(&list[i], err);
	}
	free(list);
	if (r < 0)
		json_decref(gone);
	else
		*ret = json_pack("{s:o, s:o}", "devices", gone, "orphans",
				 devices_orphans(devices));
	return r;
}
