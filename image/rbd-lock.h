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

/*
 * Has librbd take the lock of an image that has the feature and is open for writing, as its first
 * write would, or for good where @lock says so; from the clients at @former first ("" or NULL:
 * none; see image/fence.h), which are fenced. @image as above, on a thread as above.
 *
 * 0: done. 1: the lock cannot be had within @timeout seconds, or for now, but may be shared: librbd
 * goes on trying when there is something to write. A negative errno with a sentence: -EBUSY when
 * somebody else holds it for good.
 */
int rbd_image_take_lock(struct image *image, enum rbd_lock lock, const char *former,
			unsigned timeout, struct error *err) warn_unused;

/* Whether the lock was taken by one of the above, which a later owner may have asked for since. */
bool rbd_image_holds_lock(const struct image *image);

/*
 * Whether the cluster refuses the image's client. False also when it does not answer within
 * @timeout seconds. A thread as above.
 */
bool rbd_image_is_cut_off(struct image *image, unsigned timeout);
