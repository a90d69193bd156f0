/*
 * A live device whose client was cut off from its cluster: blocklisted by an operator, by another
 * node, or after a partition. The gate holds its I/O; another client opens the same image, and the
 * I/O goes on there, unless somebody else has taken the image's lock meanwhile: what waits must not
 * follow what that one wrote.
 */
#include "daemon/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "core/gate.h"
#include "daemon/client_pool.h"
#include "daemon/quiesce.h"

#define ATTEMPT_TIMEOUT 30 /* seconds */
#define PAUSE		2  /* between two of them */

/* Queue thread: no lock, no allocation. */
void device_cut_off(void *data)
{
	struct device *device = data;

	if (!atomic_exchange(&device->cut_off, true))
		sweeper_wake(&device->devices->replacer);
}

/* Closing asks a cluster that does not talk to this client any more: it may take long. */
static void close_old(struct device *device, struct image *inner)
{
	struct devices *devices = device->devices;
	struct opened old = { .image = inner, .client = device->opened.client };

	if (old.client)
		client_pool_retire(devices->config.clients, old.client);
	pthread_mutex_lock(&devices->lock);
	device_set_opened(device, &(struct opened){ 0 });
	close_aside(devices, &old);
	pthread_mutex_unlock(&devices->lock);
}

/* One device. */

static bool is_blocked(struct device *device)
{
	struct devices *devices = device->devices;
	bool blocked;

	pthread_mutex_lock(&devices->lock);
	blocked = device->state == DEVICE_BLOCKED && !devices->leaving;
	pthread_mutex_unlock(&devices->lock);
	return blocked;
}

static bool is_closing(struct device *device)
{
	struct devices *devices = device->devices;
	bool closing;

	pthread_mutex_lock(&devices->lock);
	closing = device->closing > 0 && device->state == DEVICE_BLOCKED && !devices->leaving;
	pthread_mutex_unlock(&devices->lock);
	return closing;
}

static void pause_blocked(struct device *device)
{
	struct devices *devices = device->devices;
	struct timespec end = deadline_in(PAUSE);

	pthread_mutex_lock(&devices->lock);
	while (device->state == DEVICE_BLOCKED && !devices->leaving && wait_change(devices, &end))
		;
	pthread_mutex_unlock(&devices->lock);
}

/* With the lock. Lets an unmap by force have the device; whether it is still there to be detached.
 */
static bool give_way(struct device *device)
{
	struct devices *devices = device->devices;

	device->detaching = false;
	pthread_cond_broadcast(&devices->changed);
	while (device->state == DEVICE_BLOCKED && !devices->leaving &&
	       atomic_load(&device->forcing) > 0) {
		struct timespec next = deadline_in(1);

		(void)wait_change(devices, &next);
	}
	device->detaching = device->state == DEVICE_BLOCKED && !devices->leaving;
	return device->detaching;
}

static bool is_still_wanted(struct device *device)
{
	bool wanted;

	pthread_mutex_lock(&device->devices->lock);
	wanted = give_way(device);
	pthread_mutex_unlock(&device->devices->lock);
	return wanted;
}

static void end_detaching(struct device *device)
{
	pthread_mutex_lock(&device->devices->lock);
	device->detaching = false;
	pthread_cond_broadcast(&device->devices->changed);
	pthread_mutex_unlock(&device->devices->lock);
}

/* Everything comes back from a client that is cut off, and quickly as a rule. */
static bool detach(struct device *device)
{
	struct timespec deadline;

	gate_hold(device->gate);
	for (;;) {
		deadline = deadline_in(1);
		if (gate_wait_idle(device->gate, &deadline, &device->forcing))
			break;
		if (!is_still_wanted(device))
			return false;
	}
	close_old(device, gate_take_inner(device->gate));
	end_detaching(device);
	return true;
}

int device_attach(struct device *device, const struct map_request *request, struct opened *opened,
		  struct error *err)
{
	int r;

	device_set_opened(device, opened);
	r = device_take_lock(device, request, err);
	if (r < 0) {
		device_close_aside(device, NULL, opened);
		return r;
	}
	if (quiesce_watch(opened->image, device_quiesce_hook(device), device->path, err) < 0)
		log_error("%s: %s", device->path, err->text);
	device->shared = false;
	atomic_store(&device->cut_off, false);
	gate_resume(device->gate, opened->image);
	device_set_reason(device, "");
	device_set_live(device);
	return 0;
}

int device_reopen(struct device *device, const struct map_request *request,
		  struct opener_tries *tries, struct error *err)
{
	struct client_pool *clients = device->devices->config.clients;
	struct opened opened;
	int r;

	r = opener_reopen(clients, request, tries, &opened, err);
	if (r < 0)
		return r;
	if (!device_claim(device, DEVICE_BLOCKED, NULL)) {
		opener_close(clients, &opened);
		return -ECANCELED;
	}
	r = device_attach(device, request, &opened, err);
	if (r < 0)
		set_state(device, DEVICE_BLOCKED);
	return r;
}

static int attempt(struct device *device, struct opener_tries *tries, struct error *err)
{
	struct map_request request;

	device_request(device, &request);
	request.timeout = ATTEMPT_TIMEOUT;
	if (device->shared)
		request.former_client = NULL;
	return device_reopen(device, &request, tries, err);
}

/* Whoever follows may not serve it either. */
static void lose(struct device *device, const struct error *why)
{
	struct error err = ERROR_NONE;

	device_set_reason(device, why->text);
	device->lost = true;
	if (device_write_record(device, &err) < 0)
		log_warning("%s", err.text);
	device_fail(device, why->text);
}

static void replace(struct device *device)
{
	struct opener_tries tries = { 0 };
	struct error err = ERROR_NONE;
	int r;

	while ((r = attempt(device, &tries, &err)) < 0) {
		if (r == -ECANCELED)
			return;
		if (opener_is_final(r)) {
			if (device_claim(device, DEVICE_BLOCKED, NULL))
				lose(device, &err);
			return;
		}
		device_set_reason(device, err.text);
		log_warning("%s waits for another client: %s", device->path, err.text);
		do
			pause_blocked(device);
		while (is_closing(device)); /* what the attempt had open */
		if (!is_blocked(device))
			return;
	}
	log_info("%s goes on with another client", device->path);
}

static void put(struct device *device)
{
	struct devices *devices = device->devices;

	pthread_mutex_lock(&devices->lock);
	device_put(device);
	devices->releasing--;
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
}

static void *replace_main(void *data)
{
	struct device *device = data;

	device_remember_client(device);
	device->former_held = device->opened.locked;
	log_warning("%s: its client %s is cut off from the cluster (blocklisted); its I/O waits",
		    device->path, device->former);
	device_set_reason(device, "its client was cut off from the cluster");
	if (detach(device))
		replace(device);
	put(device);
	return NULL;
}

/* Until the image that it had is closed, whose watch would be in the way of another one. */
static void *await_main(void *data)
{
	struct device *device = data;

	while (is_closing(device))
		pause_blocked(device);
	if (is_blocked(device))
		replace(device);
	put(device);
	return NULL;
}

/* With the lock. A thread for a device that is blocked; false when there is none. */
static bool begin(struct device *device, void *(*main)(void *data))
{
	if (thread_detached(main, device) < 0) {
		log_error("No thread can be had to find another client for %s yet.", device->path);
		return false;
	}
	device_get(device);
	device->devices->releasing++;
	return true;
}

void device_await_image(struct device *device)
{
	struct devices *devices = device->devices;

	pthread_mutex_lock(&devices->lock);
	device->forsaken = device->state == DEVICE_BLOCKED;
	pthread_mutex_unlock(&devices->lock);
	sweeper_wake(&devices->replacer);
}

/* The thread that waits for news. */

/* With the lock. */
static bool begin_replace(struct device *device)
{
	device->state = DEVICE_BLOCKED;
	device->detaching = true;
	if (begin(device, replace_main))
		return true;
	device->state = DEVICE_LIVE;
	device->detaching = false;
	return false;
}

/* With the lock. */
static bool begin_await(struct device *device)
{
	device->forsaken = !begin(device, await_main);
	return !device->forsaken;
}

/*
 * With the lock. What somebody else works on is looked at again when that is over. False when there
 * are no threads.
 */
static bool begin_what_is_due(struct device *device)
{
	if (device->state == DEVICE_LIVE && atomic_load(&device->cut_off))
		return begin_replace(device);
	if (device->state == DEVICE_BLOCKED && device->forsaken)
		return begin_await(device);
	return true;
}

static bool begin_all(void *data)
{
	struct devices *devices = data;
	bool begun = true;

	pthread_mutex_lock(&devices->lock);
	list_for_each(entry, &devices->table)
		if (!devices->leaving)
			begun &= begin_what_is_due(list_entry(entry, struct device, entry));
	pthread_mutex_unlock(&devices->lock);
	return begun;
}

int replacer_start(struct devices *devices)
{
	return sweeper_start(&devices->replacer, "urbd-replacer", begin_all, devices);
}

void replacer_stop(struct devices *devices)
{
	pthread_mutex_lock(&devices->lock);
	devices->leaving = true;
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
	sweeper_stop(&devices->replacer);
}
