/*
 * One hardware queue of a ublk device: its tags, their requests and buffers.
 *
 * A tag is held by the kernel (its command waits for an I/O), or by us (an I/O to be committed), or
 * is given back (the kernel ended the command: ABORT). Its request is held by the image, or not.
 * After ublk_hw_queue_fail() the two part: the kernel has its answer while the image still has the
 * request. Such a request's buffer is not shown to the kernel again, so that a write that is still
 * on its way in librbd never changes under it, and its late completion is swallowed.
 *
 * Memory: a buffer of FRONTEND_MAX_IO bytes a tag, reserved as address space. Pages come when the
 * first I/O touches them and stay until the queue is trimmed, so a device costs what its deepest
 * and largest burst cost. A fault on the path costs more than most I/O: trim what is idle.
 *
 * Everything that touches a tag runs on the home thread. The counters have that one writer, and may
 * be read by any thread.
 */
#pragma once

#include "core/frontend.h"

struct hw_queue;

struct hw_queue_config {
	int char_fd;	/* /dev/ublkcN, open until the queue is detached */
	unsigned index; /* of the queue in its device */
	unsigned depth;
	struct queue *home;
	struct image *image;
	bool ioctl_encode;
};

/* Maps the descriptors, reserves the buffers. 0 or a negative errno. */
int ublk_hw_queue_create(const struct hw_queue_config *config, struct hw_queue **ret) warn_unused;

/*
 * Offers every tag to the kernel, from the home thread. 0, or the negative errno with which the
 * kernel refused one of them. Not the home thread; blocks for a moment.
 */
int ublk_hw_queue_fetch(struct hw_queue *hwq) warn_unused;

/* From now on answers everything with EIO: at once what the image holds, and all that comes. */
void ublk_hw_queue_fail(struct hw_queue *hwq);

/*
 * Watches the requests that the image holds now; ublk_hw_queue_watched() counts those of them that
 * it has not answered since.
 */
void ublk_hw_queue_watch(struct hw_queue *hwq);
unsigned ublk_hw_queue_watched(const struct hw_queue *hwq);

/*
 * Gives the memory of the buffers back whose tags wait for an I/O. The home thread does it, one tag
 * a turn. Any thread, does not block; not once ublk_hw_queue_destroy() was called.
 */
void ublk_hw_queue_trim(struct hw_queue *hwq);

/* Tags that the kernel has not given back, and requests that the image holds. */
unsigned ublk_hw_queue_live(const struct hw_queue *hwq);
unsigned ublk_hw_queue_at_image(const struct hw_queue *hwq);

/*
 * Lets go of the kernel's descriptors, which keep /dev/ublkcN. No tag may be live; the image may
 * still hold requests. Not the home thread.
 */
void ublk_hw_queue_detach(struct hw_queue *hwq);

/* Both counters must be 0. Not the home thread. NULL is allowed. */
void ublk_hw_queue_destroy(struct hw_queue *hwq);
