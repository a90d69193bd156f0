/*
 * Who may use an image besides us: looked at between the opening of an image and its first request.
 *
 * librbd's exclusive lock is a matter of images that have the feature. It is handed over on
 * request, unless its holder took it for good. An image without the feature has nothing but its
 * watchers: whoever has it open for writing is one.
 */
#pragma once

#include "core/image.h"

enum rbd_lock {
	RBD_LOCK_AUTO,	    /* librbd's own, handed over on request; without it: no other watcher */
	RBD_LOCK_EXCLUSIVE, /* taken now, and kept until the image is closed */
	RBD_LOCK_NONE,	    /* like auto, but watchers do not matter */
};

/*
 * Looks once, and takes the lock where @lock says so. *image is one of rbd_image_open(), not
 * wrapped, before its first request. Nothing is done for one that is read-only. Any thread but a
 * queue's or librados' own; blocks up to @timeout seconds (at least 1).
 *
 * 0, or a negative errno with a sentence, and *image is closed and NULL:
 *
 *   -EBUSY	 somebody else uses the image, and the sentence says who
 *   -EOPNOTSUPP it should be locked and has no exclusive-lock feature
 *   -ETIMEDOUT	 the cluster does not answer; the image is closed once it does
 */
int rbd_image_claim(struct image **image, enum rbd_lock lock, unsigned timeout, struct error *err);
