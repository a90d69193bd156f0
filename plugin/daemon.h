/* What the volume workflow asks of urbdd: map, unmap, and which image a device is. */
#pragma once

#include <stdbool.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/error.h"
#include "plugin/spec.h"

struct daemon_device {
	char *device;
	bool existing; /* it was mapped before */
	bool read_only;
};

/* An image as urbdd's list names it. */
struct daemon_image {
	char *pool, *namespace, *image; /* namespace: NULL for the default one */
};

void daemon_device_deinit(struct daemon_device *device);
void daemon_image_deinit(struct daemon_image *image);

static inline void cleanup_daemon_device_fn(struct daemon_device *device)
{
	daemon_device_deinit(device);
}

static inline void cleanup_daemon_image_fn(struct daemon_image *image)
{
	daemon_image_deinit(image);
}

#define cleanup_daemon_device cleanup(cleanup_daemon_device_fn)
#define cleanup_daemon_image  cleanup(cleanup_daemon_image_fn)

/* urbdd is told to give up before we do, so that no device comes up after we left. */
int daemon_map(const char *socket, const struct volume_spec *spec, bool read_only,
	       struct timespec deadline, struct daemon_device *ret, struct error *err) warn_unused;

/* Not mapped is no error. */
int daemon_unmap(const char *socket, const char *device, struct timespec deadline,
		 struct error *err) warn_unused;

/* The image that is mapped at @device, its snapshots aside. -ENXIO: none. */
int daemon_image_of(const char *socket, const char *device, struct timespec deadline,
		    struct daemon_image *ret, struct error *err) warn_unused;

/*
 * The device of an image, by its name alone: it may be another cluster's. -ENXIO: it is not mapped.
 * -ENOTUNIQ: several of that name are.
 */
int daemon_device_of(const char *socket, const struct daemon_image *image, struct timespec deadline,
		     char **ret, struct error *err) warn_unused;
