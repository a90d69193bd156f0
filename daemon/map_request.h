/* What a caller asked to be mapped: the params of `map`, checked and with defaults filled in. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/* What an image is called: what `list` shows and `unmap` by name compares. Absent parts are "". */
struct image_names {
	const char *type; /* "rbd", "file", "null" */
	const char *pool, *namespace, *image,
		*snapshot; /* file: image is the path; null: the size */
};

/* Strings belong to the params object, which must outlive the request. */
struct reporter;

struct map_request {
	const struct reporter *reporter; /* is told how far the mapping has come; NULL: nobody */
	struct image_names names;
	uint64_t size; /* bytes, null images */
	bool read_only;
	const char *fault; /* rules for image/fault, or NULL */
	const char *lock;  /* "auto", "exclusive", "none"; see image/rbd-lock.h */

	const char *monitors, *user, *key, *keyring, *conf; /* NULL where not given; user is set */
	json_t *options;				    /* object of strings, or NULL */
	json_t *settings;    /* likewise, and before them: what `set` changed */
	bool client_decides; /* see image/rbd.h */
	unsigned io_timeout; /* seconds after which a request to the cluster fails; 0: never */
	const char *client;  /* "shared", "pool:N", "isolated"; NULL = CLIENT_POLICY_DEFAULT */

	const char *quiesce_hook; /* what runs around snapshots; NULL: nothing */

	const char *frontend;	      /* "auto", "ublk", "nbd" */
	unsigned queues, queue_depth; /* 0 = the daemon's default */
	unsigned timeout;	      /* seconds for the whole operation */

	/*
	 * Of a device that is taken back, else NULL: the image's identity (the device has @number),
	 * and the addresses of the clients that had it open, where they may still have sent
	 * something; whether the last of them had the image's lock to the end. See image/rbd.h.
	 */
	const char *identity, *former_client;
	bool former_held;
	int number;
};

#define MAP_TIMEOUT_DEFAULT 30
#define LOCK_DEFAULT	    "auto"

/* @params has passed control_check_params("map"). */
int map_request_parse(json_t *params, struct map_request *ret, struct error *err) warn_unused;

/* Whether there is an image in params that may do without one. */
bool image_names_given(json_t *params);

/* The names alone, of `map` or `unmap` params. */
int image_names_parse(json_t *params, struct image_names *ret, struct error *err) warn_unused;

/* "rbd/ns/foo@snap", "file:/path", "null:1048576" for sentences and logs. */
void image_names_format(const struct image_names *names, char *buffer, size_t size);

bool image_names_equal(const struct image_names *a, const struct image_names *b);
