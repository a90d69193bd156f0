/* The inside of an RBD image, and its opening; for image/rbd alone. */
#pragma once

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <semaphore.h>

#include "image/lookout.h"
#include "image/rbd-quiesce.h"
#include "image/rbd.h"
#include "image/worker.h"

struct rbd_image {
	struct image image;
	struct rbd_client *client; /* a reference */
	rados_ioctx_t ioctx;
	rbd_image_t rbd;
	char header[256];     /* the object that is there as long as the image is */
	uint64_t object_size; /* bytes */
	bool fast_extents;    /* the object map tells them */
	bool lockable;	      /* has the exclusive-lock feature */
	bool held;	      /* and its lock was taken through image/rbd-lock */
	sem_t idle;	      /* 0 while image/rbd-lock is at work, for which a close waits */

	struct worker worker;	 /* extents, the header */
	struct work look_work;	 /* posted to it */
	atomic_bool look_posted; /* and not begun */
	uint64_t watch;		 /* handle of the update watch */
	bool watched;
	struct lookout lookout; /* for the header, where there is no watch on it */
	bool looked_after;
	struct rbd_quiesce *quiesce; /* NULL: nothing is done around snapshots */
};

/*
 * Opens the image, fills image.info and image.identity; the ops are the caller's to set. 0, or a
 * negative errno with a sentence.
 */
int rbd_image_open_bounded(struct rbd_client *client, const struct rbd_image_spec *spec,
			   unsigned timeout, struct rbd_image **ret, struct error *err);

/* Closes whatever is open, also of an image that is half-made. Returns librbd's result. */
int rbd_image_free(struct rbd_image *rbd);
