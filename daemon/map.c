#include "daemon/device.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "core/figures.h"
#include "core/gate.h"
#include "daemon/client_pool.h"
#include "daemon/frontends.h"
#include "daemon/descriptors.h"
#include "daemon/queues.h"
#include "daemon/quiesce.h"
#include "daemon/records.h"
#include "daemon/reporter.h"

#define UNDO_TIMEOUT \
	5 /* seconds that a map which failed waits for the kernel to forget its device */

/* @unmet: an array, taken; NULL: the device is new. */
static json_t *map_result(const struct device *device, json_t *unmet)
{
	return json_pack("{s:i, s:s, s:s, s:b, s:b, s:o*}", "id", device->id, "device",
			 device->frontend->device, "frontend", device->frontend->ops->name,
			 "existing", unmet != NULL, "read_only", device->read_only, "unmet", unmet);
}

/* A device for writing that is not exclusive is no answer to who wants it so. */
static bool lacks_lock(const struct device *existing, const struct map_request *request)
{
	struct map_request own;

	device_request(existing, &own);
	return !request->read_only && strcmp(request->lock, "exclusive") == 0 &&
	       strcmp(own.lock, "exclusive") != 0;
}

static bool lacks_hook(const struct device *existing, const struct map_request *request)
{
	const char *hook = device_quiesce_hook(existing);

	return request->quiesce_hook && (!hook || strcmp(hook, request->quiesce_hook) != 0);
}

static bool other_frontend(const struct device *existing, const struct map_request *request)
{
	return strcmp(request->frontend, "auto") != 0 &&
	       strcmp(request->frontend, existing->frontend->ops->name) != 0;
}

static bool differs(unsigned wanted, unsigned have)
{
	return wanted != 0 && wanted != have;
}

/* The params in which an existing device is not as asked for; its data is the same all the same. */
static json_t *list_unmet(const struct device *existing, const struct map_request *request)
{
	const struct frontend_config *config = &existing->frontend->config;
	json_t *unmet = json_array();
	struct map_request own;

	device_request(existing, &own);
	if (differs(request->queues, config->nr_queues))
		json_array_append_new(unmet, json_string("queues"));
	if (differs(request->queue_depth, config->depth))
		json_array_append_new(unmet, json_string("queue_depth"));
	if (differs(request->io_timeout, own.io_timeout))
		json_array_append_new(unmet, json_string("io_timeout"));
	if (request->client && strcmp(request->client, own.client ? own.client : "") != 0)
		json_array_append_new(unmet, json_string("client"));
	if (json_object_size(request->options) > 0 && !json_equal(request->options, own.options))
		json_array_append_new(unmet, json_string("options"));
	return unmet;
}

/* With the lock: an image that is mapped already is handed out again, if it is what the caller
 * wants. */
static int answer_existing(const struct device *existing, const struct map_request *request,
			   json_t **ret, struct error *err)
{
	bool read_only = existing->read_only;

	if (existing->state == DEVICE_FAILED)
		return error_set(err, -EBUSY,
				 "It is mapped as %s, which has failed (%s). Unmap that first.",
				 existing->path,
				 *existing->reason ? existing->reason
						   : "an unmap failed half way; --force ends it");
	if (read_only != request->read_only)
		return error_set(err, -EBUSY,
				 "It is mapped %s already, as %s. Unmap that first, or map it %s "
				 "--read-only.",
				 read_only ? "read-only" : "for writing", existing->path,
				 read_only ? "with" : "without");
	if (lacks_lock(existing, request))
		return error_set(err, -EBUSY,
				 "It is mapped without --exclusive already, as %s. Unmap that "
				 "first.",
				 existing->path);
	if (lacks_hook(existing, request))
		return error_set(err, -EBUSY,
				 "It is mapped without that --quiesce hook already, as %s. Unmap "
				 "that first.",
				 existing->path);
	if (other_frontend(existing, request))
		return error_set(err, -EBUSY,
				 "It is mapped with %s already, as %s. Unmap that first, or leave "
				 "out --frontend.",
				 existing->frontend->ops->name, existing->path);
	*ret = map_result(existing, list_unmet(existing, request));
	return 0;
}

/* With the lock. @other may have gone in the last moment: NULL. */
static int explain_wait(const struct device *other, const struct map_request *request,
			struct error *err)
{
	bool waits = other && (other->state == DEVICE_QUIESCED || other->state == DEVICE_BLOCKED);

	if (waits)
		return error_set(err, -ETIMEDOUT,
				 "It is mapped as %s, which waits (%s) and did not go on within "
				 "%u s. Try again, or unmap it with --force; data not written yet "
				 "is lost.",
				 other->path, *other->reason ? other->reason : "being opened",
				 request->timeout);
	return error_set(err, -ETIMEDOUT,
			 "It is being mapped or unmapped by somebody else and that did not end "
			 "within %u s. Try again, or give a longer --timeout.",
			 request->timeout);
}

enum entry_result { ENTRY_EXISTS = 1, ENTRY_INSERTED };

/*
 * Puts @device into the table, unless its image is there: then *ret is the answer. Waits out
 * transitions. Whoever has the image gets it for itself: what @device has open is closed.
 */
static int join_or_enter(struct device *device, const struct map_request *request,
			 const struct timespec *deadline, json_t **ret, struct error *err)
{
	struct devices *devices = device->devices;
	struct device *other;
	int r;

	pthread_mutex_lock(&devices->lock);
	while ((other = find_identity(devices, device->identity)) && !device_is_idle(other)) {
		close_aside(devices, &device->opened);
		if (wait_change(devices, deadline))
			continue;
		r = explain_wait(find_identity(devices, device->identity), request, err);
		pthread_mutex_unlock(&devices->lock);
		return r;
	}
	if (other) {
		close_aside(devices, &device->opened);
		r = answer_existing(other, request, ret, err);
		r = r < 0 ? r : ENTRY_EXISTS;
	} else {
		enter_table(devices, device);
		r = ENTRY_INSERTED;
	}
	pthread_mutex_unlock(&devices->lock);
	return r;
}

/* The clients that may have sent writes, or have the lock. @ret has DEVICE_FORMER_MAX bytes; what
 * does not fit was there first, and is long gone. */
static void client_addresses(const struct device *device, char *ret)
{
	const char *own = "";
	int length;

	if (device->opened.client && !device->read_only)
		own = rbd_client_address(pooled_client_rbd(device->opened.client));
	length = snprintf(ret, DEVICE_FORMER_MAX, "%s%s%s", own, *own && *device->former ? " " : "",
			  device->former);
	if (length >= DEVICE_FORMER_MAX)
		*strrchr(ret, ' ') = '\0';
}

static json_t *make_record(const struct device *device)
{
	const struct frontend *frontend = device->frontend;
	char clients[DEVICE_FORMER_MAX];

	client_addresses(device, clients);
	return json_pack("{s:i, s:s, s:O, s:O, s:b, s:s, s:i, s:i, s:i, s:s, s:b, s:i, s:s*}", "id",
			 device->id, "identity", device->identity, "names", device->names, "access",
			 device->access, "read_only", device->read_only, "frontend",
			 frontend->ops->name, "number", frontend->number, "queues",
			 frontend->config.nr_queues, "queue_depth", frontend->config.depth,
			 "client_address", clients, "lock_held", device->opened.locked, "pid",
			 getpid(), "lost", device->lost ? device->reason : NULL);
}

int device_write_record(struct device *device, struct error *err)
{
	json_t *record = make_record(device);
	int r;

	if (!record)
		return error_set(err, -ENOMEM, "Out of memory.");
	r = record_write(device->devices->config.records, device->path, record, &device->record,
			 err);
	json_decref(record);
	return r;
}

void device_remember_client(struct device *device)
{
	char clients[DEVICE_FORMER_MAX];

	client_addresses(device, clients);
	memcpy(device->former, clients, sizeof(device->former));
}

void device_set_opened(struct device *device, const struct opened *opened)
{
	device->opened.client = opened->client;
	device->opened.rbd = opened->rbd;
	device->opened.locked = opened->locked;
}

int device_give_lock(struct device *device, struct error *err)
{
	int r;

	if (!device->opened.locked)
		return 0;
	device->opened.locked = false;
	r = device_write_record(device, err);
	device->opened.locked = r < 0;
	return r;
}

/*
 * A file system trusts that what its device has answered is there at its next flush. A cache of
 * this process dies with it, while the file system lives on. (A file's cache is the kernel's.)
 */
static int refuse_volatile(const struct device *device, struct error *err)
{
	if (!device->opened.rbd || !device->opened.rbd->info.volatile_cache)
		return 0;
	return error_set(err, -EINVAL,
			 "A cache that writes back would lose what it answered if urbdd died: a "
			 "device takes only rbd_cache_policy=writethrough. Leave rbd_cache_policy "
			 "out of the options, and of the image's own ('rbd config image ls').");
}

/*
 * The kernel, and whoever takes the device over or away, wait for each request of a device. One
 * that was mapped so is served on: to refuse that would lose its I/O for certain.
 */
static int refuse_hanging(const struct device *device, const struct map_request *request,
			  struct error *err)
{
	if (request->identity || !device->opened.rbd || !device->opened.rbd->info.may_hang)
		return 0;
	return error_set(err, -EINVAL,
			 "With rbd_disable_zero_copy_writes=false writes that librbd refuses never "
			 "end, and nor would the device's recovery. Leave it out of the options, "
			 "and of the image's own ('rbd config image ls').");
}

int device_take_lock(struct device *device, const struct map_request *request, struct error *err)
{
	bool had_former = *device->former;
	int r = refuse_volatile(device, err);

	if (r == 0)
		r = refuse_hanging(device, request, err);
	if (r == 0)
		r = device_write_record(device, err);
	if (r < 0)
		return r;
	device->former_held = false; /* from here on others may be in its place */
	r = opener_take_lock(&device->opened, request, err);
	if (r < 0)
		return r;
	if (r == 0)
		*device->former = '\0';
	return device->opened.locked || had_former ? device_write_record(device, err) : 0;
}

static unsigned hw_queues(const struct devices *devices, const struct map_request *request,
			  const struct frontend_ops *ops)
{
	unsigned wanted = request->queues
				  ? request->queues
				  : MIN(devices->config.queues->count, ops->hw_queues_default);

	return MIN(wanted, FRONTEND_HW_QUEUES_MAX);
}

static int create_frontend(struct device *device, const struct map_request *request,
			   const struct timespec *deadline, struct error *err)
{
	struct queue *picked[FRONTEND_HW_QUEUES_MAX];
	struct devices *devices = device->devices;
	struct frontend_config config = {
		.image = device->opened.image,
		.name = device->identity,
		.queues = picked,
		.depth = request->queue_depth ? request->queue_depth : FRONTEND_DEPTH_DEFAULT,
		.owner = records_owner(devices->config.records),
		.number = request->identity ? request->number : -1,
		.take_back = request->identity != NULL,
		.deadline = deadline_left(deadline),
	};
	const struct frontend_ops *ops = frontend_choose(request->frontend, err);
	struct frontend *frontend;
	int r;

	if (!ops)
		return err->code;
	config.nr_queues = hw_queues(devices, request, ops);
	pthread_mutex_lock(&devices->lock);
	queues_pick(devices->config.queues, picked, config.nr_queues);
	pthread_mutex_unlock(&devices->lock);
	r = ops->create(&config, &frontend, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&devices->lock);
	device->frontend = frontend;
	memcpy(device->path, frontend->device, sizeof(device->path));
	pthread_mutex_unlock(&devices->lock);
	return 0;
}

/* The gate owns the image from here on. Its figures outlive an exchange of the image behind it. */
static int make_gate(struct device *device, const struct map_request *request, struct error *err)
{
	const struct gate_config config = {
		.queues = device->devices->config.queues->list,
		.nr_queues = device->devices->config.queues->count,
		.io_timeout = request->io_timeout,
		.cut_off = device_cut_off,
		.data = device,
	};

	if (gate_create(&config, device->opened.image, &device->gate) < 0)
		return error_set(err, -ENOMEM, "Out of memory.");
	device->opened.image = gate_image(device->gate);
	device->opened.image->figures = figures_create();
	if (!device->opened.image->figures)
		return error_set(err, -ENOMEM, "Out of memory.");
	image_listen(device->opened.image, device_image_changed, device);
	return 0;
}

int device_start(struct device *device, const struct map_request *request,
		 const struct timespec *deadline, struct error *err)
{
	int r;

	report(request->reporter, "starting the device");
	r = make_gate(device, request, err);
	if (r == 0)
		r = create_frontend(device, request, deadline, err);
	if (r == 0)
		r = device_take_lock(device, request, err);
	if (r < 0)
		return r;
	device->frontend->config.deadline = deadline_left(deadline);
	r = device->frontend->ops->start(device->frontend, err);
	/* What is done to the device later starts anew. */
	device->frontend->config.deadline = request->timeout;
	return r;
}

/* What a file is can be seen without opening it, which the lock of a device might refuse. */
static int identify(struct device *device, const struct map_request *request, struct error *err)
{
	int r;

	opener_identity(request, device->identity);
	if (*device->identity)
		return 0;
	r = opener_open(device->devices->config.clients, request, &device->opened, err);
	if (r == 0)
		memcpy(device->identity, device->opened.image->identity, sizeof(device->identity));
	return r;
}

/* Where the image is not open (any more). */
static int open_identified(struct device *device, const struct map_request *request,
			   struct error *err)
{
	int r;

	if (device->opened.image)
		return 0;
	r = opener_open(device->devices->config.clients, request, &device->opened, err);
	if (r < 0)
		return r;
	if (strcmp(device->opened.image->identity, device->identity) != 0)
		return error_set(err, -ESTALE, "Something else has its name by now. Try again.");
	return 0;
}

/*
 * A device that nobody was told of would be nobody's to unmap. Looked at between the steps, each of
 * which has its deadline; from the last look on the device stays, and who asks again gets it.
 */
static int need_caller(const struct map_request *request, struct error *err)
{
	if (!caller_gone(request->reporter))
		return 0;
	return error_set(err, -ECANCELED, "Who asked for it has gone away.");
}

/* The device is in the table as `mapping`; it leaves it again on failure. */
static int map_entered(struct device *device, const struct map_request *request,
		       const struct timespec *deadline, json_t **ret, struct error *err)
{
	char spec[DEVICE_SPEC_MAX];
	struct timespec late;
	int r;

	device_spec(device, spec);
	r = need_caller(request, err);
	if (r == 0)
		r = open_identified(device, request, err);
	if (r == 0)
		r = opener_claim(&device->opened, request, deadline, err);
	if (r == 0)
		r = need_caller(request, err);
	if (r == 0)
		r = device_start(device, request, deadline, err);
	if (r == 0)
		r = quiesce_watch(device->opened.image, request->quiesce_hook, device->path, err);
	if (r == 0)
		r = need_caller(request, err);
	if (r < 0) {
		if (caller_gone(request->reporter))
			log_info("the map of %s is given up: who asked for it has gone away", spec);
		leave_table(device);
		late = deadline_in(UNDO_TIMEOUT);
		device_release(device, &late, deadline);
		return r;
	}
	device->mapped_at = time(NULL);
	*ret = map_result(device, NULL);
	log_info("%s is mapped as %s%s", spec, device->path,
		 request->read_only ? ", read-only" : "");
	device_set_live(device);
	return 0;
}

int devices_map(struct devices *devices, const struct map_request *request, json_t **ret,
		struct error *err)
{
	struct timespec deadline = deadline_in(request->timeout);
	struct device *device;
	int r;

	r = descriptors_check(err);
	if (r == 0)
		r = device_new(devices, request, &device, err);
	if (r < 0)
		return r;
	r = identify(device, request, err);
	if (r == 0)
		r = join_or_enter(device, request, &deadline, ret, err);
	if (r == ENTRY_INSERTED)
		return map_entered(device, request, &deadline, ret, err);
	device_free(device);
	return r == ENTRY_EXISTS ? 0 : r;
}
