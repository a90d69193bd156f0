/*
 * The device table: maps images to devices of the kernel, and takes them away again.
 *
 * All functions may be called on any thread but a queue's, and block for as long as the operation
 * takes (the request's timeout at most). The table's lock is never held while an image, the kernel
 * or the state directory is at work, so one dead cluster holds up nobody else.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "common/error.h"
#include "daemon/map_request.h"

struct client_pool;
struct devices;
struct queues;
struct records;

struct devices_config {
	struct queues *queues;
	struct records *records;
	struct client_pool *clients;
	struct timespec started; /* the daemon was (CLOCK_MONOTONIC) */
	bool no_fence;		 /* for tests alone: what it is good for shows without it */
};

int devices_create(const struct devices_config *config, struct devices **ret,
		   struct error *err) warn_unused;

/*
 * Leaves every device in the kernel for the next daemon: holds its I/O, waits until @deadline
 * (CLOCK_MONOTONIC) for what is in flight, closes its image. Returns how many are left; unless that
 * is 0, the process must end without devices_destroy(). NULL is allowed.
 */
unsigned devices_leave(struct devices *devices, const struct timespec *deadline);

/* Frees the table. devices_leave() has returned 0. NULL is allowed. */
void devices_destroy(struct devices *devices);

/* *ret: a new object {id, device, frontend, existing, read_only}. */
int devices_map(struct devices *devices, const struct map_request *request, json_t **ret,
		struct error *err) warn_unused;

/* What `unmap` names: a device path, or else an image. */
struct unmap_request {
	const char *device; /* NULL: by names */
	struct image_names names;
	bool force;
	unsigned timeout; /* seconds */
};

/* *ret: a new object {device}. -ENXIO when nothing of that name is mapped. */
int devices_unmap(struct devices *devices, const struct unmap_request *request, json_t **ret,
		  struct error *err) warn_unused;

/*
 * All devices, several at once. *ret: a new object {devices} of the paths that are gone. A device
 * that stays is a failure, whose sentence names one of them.
 */
int devices_unmap_all(struct devices *devices, const struct unmap_request *request, json_t **ret,
		      struct error *err) warn_unused;

/*
 * Holds the I/O of the device at @path and closes its image, within @timeout seconds; and lets it
 * go on. What is so already is no failure. *ret: a new object {device}.
 */
int devices_drain(struct devices *devices, const char *path, unsigned timeout, json_t **ret,
		  struct error *err) warn_unused;
int devices_resume(struct devices *devices, const char *path, unsigned timeout, json_t **ret,
		   struct error *err) warn_unused;

/*
 * Changes settings of the image of a device that @request names (its `force` means nothing), see
 * settings.h. *ret: a new object {device, settings}. -ENXIO when nothing of that name is mapped.
 */
int devices_set(struct devices *devices, const struct unmap_request *request, json_t *changes,
		json_t **ret, struct error *err) warn_unused;

/* A new array of {id, type, pool, namespace, image, snapshot, device, frontend, state, read_only}.
 */
json_t *devices_list(struct devices *devices);

/* A new array of the paths of devices that a dead urbdd left in the kernel without a record. */
json_t *devices_orphans(struct devices *devices);

/* The same as devices_list() with all details, of one device or (NULL) all; NULL and @err if
 * @device is not in the table. */
json_t *devices_status(struct devices *devices, const char *device, struct error *err);
