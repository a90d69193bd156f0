/*
 * A frontend makes an image a block device of the kernel. ublk/ and nbd/ each fill one ops table.
 *
 * Life of one device: create (the kernel number is reserved, nothing visible) → start (the block
 * device is there) → stop (the block device is gone) → detach (the kernel knows nothing of it) →
 * destroy. All five block, and are called on a worker thread, one at a time for a device; never on
 * a queue thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "core/image.h"
#include "core/queue.h"

#define FRONTEND_DEPTH_MAX     1024
#define FRONTEND_DEPTH_DEFAULT 128
#define FRONTEND_HW_QUEUES_MAX 32
#define FRONTEND_MAX_IO	       (1024u * 1024) /* bytes of one request's buffer */

struct frontend_config {
	struct image *image; /* the caller's; closed after destroy */
	const char *name;    /* identity of the device for protocols that carry one; copied */
	struct queue *const *queues; /* hardware queue i is served by queues[i]; copied */
	unsigned nr_queues;	     /* 1..FRONTEND_HW_QUEUES_MAX */
	unsigned depth;		     /* requests of one hardware queue, 1..FRONTEND_DEPTH_MAX */
	int number;		     /* the kernel's device number asked for, or -1 */
	uint64_t owner;		     /* mark of the devices of this state directory */
	bool take_back; /* the kernel has the device @number, made by a server that has died: it is
			   served again, with the queues and the depth that it has */
	unsigned deadline; /* seconds, > 0, that one kernel operation but stop may take */
};

struct frontend;

/* Whose device the kernel's one of a number is, as in its frontend_config. */
struct frontend_mark {
	const char *name;
	uint64_t owner;
};

/* What the kernel has under a number. */
enum frontend_leftover {
	LEFTOVER_NONE,	 /* no device */
	LEFTOVER_OTHERS, /* one with another mark: somebody else has taken the number since */
	LEFTOVER_UNUSED, /* one that was never started, or stopped: nobody's I/O waits there */
	LEFTOVER_WAITS,	 /* one that somebody may have used; its I/O waits */
};

struct frontend_ops {
	const char *name;	 /* "ublk", "nbd" */
	const char *path_prefix; /* of its devices: "/dev/ublkb" */

	/* Hardware queues of a device for which no number was asked. */
	unsigned hw_queues_default;

	/*
	 * Asks the kernel whether it offers this frontend (loads the module where it is absent).
	 * 0, or a negative errno with a sentence that says what is missing. Any thread, may block.
	 */
	int (*probe)(struct error *err);

	/*
	 * Reserves a kernel number. On success *ret has ops, config, device and number set. With
	 * @take_back waits (until the deadline) for what is left of the dead server to go; a
	 * living one is -EBUSY, a device with another mark, or one that cannot be taken back at
	 * all, -ESTALE.
	 */
	int (*create)(const struct frontend_config *config, struct frontend **ret,
		      struct error *err);

	/*
	 * Makes the block device appear, ready for I/O; one that is taken back goes on, with the
	 * requests first that were in flight. After a failure only detach or destroy may follow;
	 * where it is `stranded`, only stop.
	 */
	int (*start)(struct frontend *frontend, struct error *err);

	/*
	 * Takes the block device away. Without @force waits for the requests in flight to finish;
	 * with it every outstanding tag is answered with EIO at once, and the image's late
	 * completions are swallowed. The caller has made sure that nobody uses the device, or was
	 * told to force. It all takes @deadline seconds (> 0) at most, and a second or two more
	 * where the kernel must be made to let go. After a failure `ending` tells whether the
	 * device is as it was; in both cases stop may be called again.
	 */
	int (*stop)(struct frontend *frontend, bool force, unsigned deadline, struct error *err);

	/*
	 * Gives up all that the kernel has of the device, its number too; stops it by force where
	 * that was not done. Does not wait for the image. Any state after create. False when the
	 * kernel still has the device and could not be made to remove it, or when it was to be
	 * taken back and was not.
	 */
	bool (*detach)(struct frontend *frontend);

	/*
	 * Frees everything; detaches first where that was not done. Waits for requests that the
	 * image still holds (their buffers live here), so it may block as long as the image does.
	 * Any state after create; NULL is allowed.
	 */
	void (*destroy)(struct frontend *frontend);

	/*
	 * Gives the memory of buffers back that no request uses; the queue threads do it, soon. A
	 * device that is started and not being stopped. Does not block.
	 */
	void (*trim)(struct frontend *frontend);

	/*
	 * The image's size changed to @size bytes. -EOPNOTSUPP where the kernel cannot follow. A
	 * device that is started and not being stopped.
	 */
	int (*resize)(struct frontend *frontend, uint64_t size, struct error *err);

	/* For devices that a server made which has died. */

	/* Whether the kernel has a device of that number that nobody serves, and that urbd made as
	 * far as the kernel can tell. */
	bool (*orphan)(int number);

	/*
	 * What the kernel has under @number: an enum frontend_leftover, or a negative errno when it
	 * cannot be told now. @mark is compared as far as the kernel keeps it. May block for some
	 * seconds.
	 */
	int (*look)(int number, const struct frontend_mark *mark, struct error *err);

	/*
	 * Has the kernel remove it, and fail its I/O with EIO; 0 also when it is not there, or has
	 * another mark. -EBUSY when a living process serves it. @mark may be NULL: whatever it is.
	 * May block for some seconds.
	 */
	int (*discard)(int number, const struct frontend_mark *mark, struct error *err);

	/*
	 * Removes the devices that a dead server with that mark had reserved and not started, which
	 * nobody else knows of. May block for some seconds. NULL where there are none.
	 */
	void (*discard_unstarted)(uint64_t owner);
};

struct frontend {
	const struct frontend_ops *ops;
	struct frontend_config config;
	int number;	    /* the N of the device path, known after create */
	char device[32];    /* "/dev/ublkb0" */
	char features[128]; /* words on what the kernel granted, for status */
	bool ending;	    /* stop has begun to take the device away: it serves nobody any more */
	bool detached;	    /* detach was called */
	/*
	 * Taking it back failed when the kernel had requests of it already: it holds the I/O, or
	 * lets it go on at any later moment, so frontend and image must stay. Only a stop by force
	 * ends that, or the end of this process, after which it can be taken back.
	 */
	bool stranded;
};
