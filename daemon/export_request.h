/* What callers ask of exports: the params of `export` and `unexport`, checked and filled in. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "daemon/addresses.h"
#include "daemon/map_request.h"

struct export_request {
	struct map_request image;
	struct export_address address;
	const char *name; /* NULL: the image's */
};

struct unexport_request {
	const char *name;	  /* or URI; or NULL */
	struct image_names names; /* without an image: by name alone */
	bool force;
	unsigned timeout; /* seconds */
};

/* @params have passed control_check_params(); strings of the request belong to them. */
int export_request_parse(json_t *params, struct export_request *ret, struct error *err) warn_unused;
int unexport_request_parse(json_t *params, struct unexport_request *ret,
			   struct error *err) warn_unused;
