/*
 * The daemon's exports: images that NBD clients reach over sockets.
 *
 * An address is listened on while it has exports; those given at start-up, always. Each export
 * opens its image for itself. Exports are not recorded: they end with the daemon. All functions may
 * be called on any thread but a queue's, and block for as long as the operation takes.
 */
#pragma once

#include <jansson.h>
#include <time.h>

#include "common/error.h"
#include "daemon/addresses.h"
#include "daemon/export_request.h"

struct client_pool;
struct exports;
struct queues;

int exports_create(struct queues *queues, struct client_pool *clients,
		   const struct export_limits *limits, struct exports **ret,
		   struct error *err) warn_unused;

/* Listens at an address for as long as the daemon lives. At start-up. */
int exports_listen(struct exports *exports, const struct export_address *address,
		   struct error *err) warn_unused;

/* *ret: a new object {name, uri, existing, read_only}. */
int exports_add(struct exports *exports, const struct export_request *request, json_t **ret,
		struct error *err) warn_unused;

/* *ret: a new object {name}. -ENXIO when nothing of that name is exported. */
int exports_remove(struct exports *exports, const struct unexport_request *request, json_t **ret,
		   struct error *err) warn_unused;

/*
 * Changes settings of the image of an export that @request names (its `force` means nothing), see
 * settings.h. *ret: a new object {export, settings}. -ENXIO when nothing of that name is exported.
 */
int exports_set(struct exports *exports, const struct unexport_request *request, json_t *changes,
		json_t **ret, struct error *err) warn_unused;

/* A new array, see the schema. */
json_t *exports_list(struct exports *exports);

/*
 * Ends all exports; returns how many images are still being opened or closed at @deadline
 * (CLOCK_MONOTONIC). *ret_given_up: and how many of those that nobody waits for, because they were
 * unexported by force or removed. May be called again.
 */
unsigned exports_stop(struct exports *exports, const struct timespec *deadline,
		      unsigned *ret_given_up);

/* exports_stop() has left nothing. NULL is allowed. */
void exports_destroy(struct exports *exports);
