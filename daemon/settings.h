/*
 * Settings that limit the I/O of one device or export (librbd's rbd_qos_*), changed while it is
 * served. Nothing is written to the cluster, and others that use the image do not notice.
 *
 * librbd has them for a whole client. So the device's I/O is held, its image is closed, a client
 * that has the settings opens it, and the I/O goes on: a pause of some milliseconds. Such a client
 * is shared by what has the same settings alone.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"
#include "daemon/map_request.h"
#include "daemon/opener.h"

struct client_pool;

struct settings_plan {
	json_t *settings;   /* all of them */
	bool changes;	    /* they differ from those before */
	struct opened look; /* the image, for reading: keeps the client that has them at hand */
};

/*
 * What the settings of the open image that @request opens would be with @changes, which have passed
 * control_check_params(); "" takes one away. Asks librbd whether it knows them and takes their
 * values; and the cluster whether they would be in force, and whether it answers at all, within
 * request->timeout seconds. End the plan when the image is open again.
 *
 * 0, or a negative errno with a sentence: -EOPNOTSUPP (no rbd image), -EINVAL, -EEXIST (the image's
 * or its pool's metadata goes before), and those of opener_open().
 */
int settings_plan(struct client_pool *clients, const struct map_request *request, json_t *changes,
		  struct settings_plan *ret, struct error *err) warn_unused;
void settings_plan_end(struct client_pool *clients, struct settings_plan *plan);

/* -ETIMEDOUT with the sentence for an image that did not answer what was in flight. */
int settings_refuse_busy(struct error *err);

/* A new object: the settings that @access has. */
json_t *settings_of(const json_t *access);

/* Adds them to a row of status or list where there are any. */
void settings_show(json_t *row, const json_t *access);
