/* The figures of devices and exports, for `stat` and for Prometheus. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "common/error.h"
#include "core/figures.h"
#include "daemon/map_request.h"

struct devices;
struct exports;
struct image;

/* One image that is served. Valid during a visit. */
struct stat_source {
	const char *device; /* path of a device; NULL: it is an export */
	const char *export; /* name of an export, and where it is served */
	const char *listen;
	const char *uri;
	json_t *names; /* {type, pool, namespace, image, snapshot} */
	const struct image *image;
};

/* Called with the lock of the table that the image stands in: read, and do not block. */
typedef void stat_visit(const struct stat_source *source, void *data);

/* report.c and exports.c: all that are open. Any thread but a queue's. */
void devices_visit(struct devices *devices, stat_visit *visit, void *data);
void exports_visit(struct exports *exports, stat_visit *visit, void *data);

/* The params of `stat`, which own the strings: what to tell about; all, where nothing is set. */
struct stat_request {
	const char *device;	  /* its path; then the others are not set */
	const char *export;	  /* name or URI, or */
	struct image_names names; /* what is of this image; names.image is NULL where not set */
};

/* *ret: the result of `stat` (see the schema). -ENXIO when there is nothing of that kind. */
int stat_rows(struct devices *devices, struct exports *exports, const struct stat_request *request,
	      json_t **ret, struct error *err) warn_unused;

/* Writes all figures in the text format of Prometheus. */
void stat_print_metrics(struct devices *devices, struct exports *exports, FILE *out);
