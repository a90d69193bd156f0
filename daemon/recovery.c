#include "daemon/recovery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "daemon/device.h"
#include "daemon/frontends.h"
#include "daemon/quiesce.h"
#include "daemon/record_check.h"
#include "daemon/records.h"
#include "daemon/reporter.h"
#include "image/failed.h"

/* One try: the cluster may make a client wait that it cannot fence for its watch timeout (30 s). */
#define ATTEMPT_TIMEOUT 60

#define PAUSE_FIRST 1 /* seconds between tries, doubled each time */
#define PAUSE_MAX   15

struct recovery {
	struct device *device; /* a reference */
	json_t *record;	       /* what it is recovered from */
	const struct frontend_ops *ops;
	struct reporter reporter;
	struct opener_tries tries;
};

static const char *text_of(const json_t *record, const char *name)
{
	return json_string_value(json_object_get(record, name));
}

static unsigned number_of(const json_t *record, const char *name)
{
	return (unsigned)json_integer_value(json_object_get(record, name));
}

void device_set_reason(struct device *device, const char *reason)
{
	pthread_mutex_lock(&device->devices->lock);
	snprintf(device->reason, sizeof(device->reason), "%s", reason);
	pthread_mutex_unlock(&device->devices->lock);
}

/* What it waits for is news only when it waits for long. */
static void report_reason(void *data, const char *text)
{
	struct device *device = data;

	device_set_reason(device, text);
	log_info("%s: %s", device->path, text);
}

/* One try. */

static void make_request(struct recovery *recovery, struct map_request *ret)
{
	device_request(recovery->device, ret);
	ret->timeout = ATTEMPT_TIMEOUT;
	ret->frontend = recovery->ops->name;
	ret->queues = number_of(recovery->record, "queues");
	ret->queue_depth = number_of(recovery->record, "queue_depth");
	ret->number = (int)number_of(recovery->record, "number");
	if (recovery->device->devices->config.no_fence) {
		ret->former_client = "";
		ret->former_held = false;
	}
	ret->reporter = &recovery->reporter;
}

/* The kernel may let it go on yet, so all of it stays; nothing but force can be tried. */
static void strand(struct device *device, const struct error *err)
{
	log_error("%s: %s. It may be served again when urbdd is restarted.", device->path,
		  err->text);
	device_set_reason(device, err->text);
	set_state(device, DEVICE_FAILED);
}

/* The caller's from here on: what the last try has made of the device. */
static struct frontend *take_frontend(struct device *device, struct opened *ret_opened)
{
	struct frontend *frontend;

	pthread_mutex_lock(&device->devices->lock);
	frontend = device->frontend;
	*ret_opened = device->opened;
	device->frontend = NULL;
	device->gate = NULL;
	device->opened.image = NULL;
	pthread_mutex_unlock(&device->devices->lock);
	return frontend;
}

/* As it was: the kernel has the device, nobody its image; that may take long to close. */
static void take_apart(struct device *device)
{
	struct error err = ERROR_NONE;
	struct frontend *frontend;
	struct opened opened;

	if (device_give_lock(device, &err) < 0) /* it goes with the image */
		log_warning("%s", err.text);
	frontend = take_frontend(device, &opened);
	if (frontend)
		frontend->ops->detach(frontend);
	device_close_aside(device, frontend, &opened);
}

/* The kernel could not tell at the start, or things have changed since. */
static int check_waits(struct recovery *recovery, struct error *err)
{
	const struct frontend_mark mark = device_mark(recovery->device);
	int number = (int)number_of(recovery->record, "number");
	int r = recovery->ops->look(number, &mark, err);

	if (r < 0 || r == LEFTOVER_WAITS)
		return MIN(r, 0);
	return error_set(err, -ESTALE,
			 "The kernel has no device of this urbdd at %s any more. Unmap it with "
			 "--force.",
			 recovery->device->path);
}

/* With the device claimed; @failed is its state when that fails. */
static int start(struct device *device, const struct map_request *request, enum device_state failed,
		 struct error *err)
{
	struct timespec deadline = deadline_in(ATTEMPT_TIMEOUT);
	int r = device_start(device, request, &deadline, err);

	if (r == 0)
		return 0;
	if (device->frontend && device->frontend->stranded) {
		strand(device, err);
		return -ECANCELED;
	}
	take_apart(device);
	set_state(device, failed);
	return r;
}

static int attempt(struct recovery *recovery, struct error *err)
{
	struct device *device = recovery->device;
	struct client_pool *clients = device->devices->config.clients;
	struct map_request request;
	struct opened opened;
	int r = check_waits(recovery, err);

	if (r < 0)
		return r;
	make_request(recovery, &request);
	r = opener_reopen(clients, &request, &recovery->tries, &opened, err);
	if (r < 0)
		return r;
	if (!device_claim(device, DEVICE_QUIESCED, &opened)) {
		opener_close(clients, &opened);
		return error_set(err, -ECANCELED, "It is being taken away.");
	}
	return start(device, &request, DEVICE_QUIESCED, err);
}

/* The thread of a device. */

/* Rather than hold its I/O for ever: who uses the device hears that it is lost. */
static int serve_errors(struct recovery *recovery, struct error *err)
{
	struct device *device = recovery->device;
	struct opened opened = { 0 };
	struct map_request request;
	int r;

	r = failed_image_open(device_kernel_size(device->path), &opened.image, err);
	if (r < 0)
		return r;
	if (!device_claim(device, DEVICE_QUIESCED, &opened)) {
		image_close(opened.image);
		return 0;
	}
	make_request(recovery, &request);
	request.reporter = NULL; /* why it fails is what its status has to say */
	r = start(device, &request, DEVICE_FAILED, err);
	if (r == 0) {
		set_state(device, DEVICE_FAILED);
		quiesce_release(device_quiesce_hook(device), device->path);
	}
	return r == -ECANCELED ? 0 : r;
}

static void give_up(struct recovery *recovery, const struct error *why)
{
	struct device *device = recovery->device;
	struct error err = ERROR_NONE;

	log_error("%s fails: %s", device->path, why->text);
	device_set_reason(device, why->text);
	device->lost = true;
	if (serve_errors(recovery, &err) < 0)
		log_error("%s: its I/O waits: %s", device->path, err.text);
}

/* Also until what the last try had open is closed. False when there is nothing more to do. */
static bool pause_between(struct device *device, unsigned seconds)
{
	struct devices *devices = device->devices;
	struct timespec end;
	bool go_on;

	pthread_mutex_lock(&devices->lock);
	do {
		end = deadline_in(seconds);
		while ((go_on = device->state == DEVICE_QUIESCED && !devices->leaving) &&
		       wait_change(devices, &end))
			;
	} while (go_on && device->closing > 0);
	pthread_mutex_unlock(&devices->lock);
	return go_on;
}

static long milliseconds_since(const struct timespec *begin)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - begin->tv_sec) * 1000 + (now.tv_nsec - begin->tv_nsec) / 1000000;
}

/*
 * The device is served, so what was frozen under the daemon that died can be thawed; a snapshot
 * that is begun from then on has a hook again. Without one it is served all the same: its I/O
 * waited.
 */
static void watch_again(struct device *device)
{
	const char *hook = device_quiesce_hook(device);
	struct error err = ERROR_NONE;

	quiesce_release(hook, device->path);
	if (quiesce_watch(device->opened.image, hook, device->path, &err) < 0)
		log_error("%s: %s", device->path, err.text);
}

static void finish(struct device *device)
{
	char spec[DEVICE_SPEC_MAX];

	device_spec(device, spec);
	device_set_reason(device, "");
	device->mapped_at = time(NULL);
	log_info("%s (%s) is served again, %ld ms after the start", device->path, spec,
		 milliseconds_since(&device->devices->config.started));
	watch_again(device);
	device_set_live(device);
}

static void recover(struct recovery *recovery)
{
	struct device *device = recovery->device;
	unsigned pause = PAUSE_FIRST;
	struct error err = ERROR_NONE;
	const char *lost = text_of(recovery->record, "lost");
	int r;

	if (lost) {
		error_set(&err, -ESTALE, "%s", lost);
		give_up(recovery, &err);
		return;
	}
	while ((r = attempt(recovery, &err)) < 0) {
		if (r == -ECANCELED)
			return;
		if (opener_is_final(r)) {
			give_up(recovery, &err);
			return;
		}
		report_reason(device, err.text);
		if (!pause_between(device, pause))
			return;
		pause = MIN(pause * 2, PAUSE_MAX);
	}
	finish(device);
}

static void *recover_main(void *data)
{
	struct recovery *recovery = data;
	struct devices *devices = recovery->device->devices;

	recover(recovery);
	pthread_mutex_lock(&devices->lock);
	device_put(recovery->device);
	devices->releasing--;
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
	json_decref(recovery->record);
	free(recovery);
	return NULL;
}

/* Records. */

static struct recovery *make_recovery(struct devices *devices, const char *path, json_t *record)
{
	struct recovery *recovery = calloc(1, sizeof(*recovery));

	if (!recovery)
		return NULL;
	recovery->device = device_restore(devices, path, record);
	if (!recovery->device) {
		free(recovery);
		return NULL;
	}
	recovery->record = json_incref(record);
	recovery->ops = frontend_named(text_of(record, "frontend"));
	recovery->reporter = (struct reporter){ .report = report_reason, .data = recovery->device };
	return recovery;
}

static void begin(struct devices *devices, struct recovery *recovery)
{
	pthread_mutex_lock(&devices->lock);
	enter_table(devices, recovery->device);
	recovery->device->state = DEVICE_QUIESCED;
	device_get(recovery->device);
	devices->releasing++;
	pthread_mutex_unlock(&devices->lock);
	if (thread_detached(recover_main, recovery) < 0)
		recover_main(recovery);
}

static int check_record(const struct records *records, const char *path, json_t *record,
			struct error *err)
{
	const char *why;

	if (!record_is_usable(records, record, &why))
		return error_set(err, -EINVAL, "%s", why);
	return record_check(path, record, err);
}

static void set_aside(struct records *records, const char *path, const char *why)
{
	log_warning("The record of %s %s; it is set aside as %s.json.aside.", path, why,
		    path + strlen("/dev/"));
	record_set_aside(records, path);
}

static void take_on(struct devices *devices, const char *path, json_t *record)
{
	struct recovery *recovery = make_recovery(devices, path, record);

	if (recovery)
		begin(devices, recovery);
	else
		log_error("Out of memory: %s is not served.", path);
}

/* Death came between the record and the start of the device, or between its stop and removal. */
static void discard_unused(const struct frontend_ops *ops, const char *path, int number,
			   const struct frontend_mark *mark)
{
	struct error err = ERROR_NONE;

	if (ops->discard(number, mark, &err) < 0)
		log_warning("%s, which nobody uses, stays: %s", path, err.text);
}

/* Of a device of which the kernel cannot tell now, it is asked again. */
static void follow(struct devices *devices, const char *path, json_t *record)
{
	struct records *records = devices->config.records;
	const struct frontend_ops *ops = frontend_named(text_of(record, "frontend"));
	const struct frontend_mark mark = { text_of(record, "identity"), records_owner(records) };
	int number = (int)number_of(record, "number");
	struct error ignored;

	switch (ops->look(number, &mark, &ignored)) {
	case LEFTOVER_UNUSED:
		discard_unused(ops, path, number, &mark);
		record_forget(records, path);
		break;
	case LEFTOVER_NONE:
		record_forget(records, path);
		break;
	case LEFTOVER_OTHERS:
		set_aside(records, path, "is not that of the device which the kernel has now");
		break;
	default:
		take_on(devices, path, record);
	}
}

static void review(const char *path, json_t *record, void *data)
{
	struct devices *devices = data;
	struct records *records = devices->config.records;
	struct error why = ERROR_NONE;

	if (check_record(records, path, record, &why) < 0)
		set_aside(records, path, why.text);
	else
		follow(devices, path, record);
}

void devices_recover(struct devices *devices)
{
	frontends_discard_unstarted(records_owner(devices->config.records));
	records_visit(devices->config.records, review, devices);
}
