/*
 * An image: storage behind an ops table. image_submit() checks each request once and counts it;
 * backends (folder image/) need not check ranges again.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "core/request.h"

struct figures;
struct image;

/*
 * What frontends announce to their clients. All sizes in bytes. Fixed while open, but for `size`
 * and `gone`.
 */
struct image_info {
	_Atomic uint64_t size; /* a multiple of block_size */
	_Atomic bool gone;     /* removed while it was open: every request ends in -EIO, for good */
	uint32_t block_size;   /* logical block, 512 or 4096: unit of offset and length */
	uint32_t physical_block_size; /* smallest write without read-modify-write, >= block_size */
	uint32_t minimum_io;	      /* smallest efficient I/O; 0 = physical_block_size */
	uint32_t optimal_io;	      /* object size or stripe, 0 = none known */
	uint32_t discard_granularity; /* 0 = discard is not offered */
	uint64_t max_discard;	      /* largest discard that is taken in one request */
	uint64_t max_write_zeroes;    /* likewise; 0 = not offered */
	bool read_only;
	bool volatile_cache; /* a completed write is stable only after flush or with FUA */
	bool may_hang;	     /* a write that the storage refuses may never complete */
	bool fast_zero;	     /* REQUEST_FAST_ZERO can succeed */
	bool extents;	     /* REQUEST_EXTENTS tells more than "all data" */
};

/*
 * Names what is stored, whatever it is called: two opens of one image give the same identity.
 * rbd: "rbd:FSID/POOL_ID/NAMESPACE/IMAGE_ID@SNAP_ID"; file: "file:DEV:INODE"; "" = unlike any
 * other.
 */
#define IMAGE_IDENTITY_MAX 384

/* What is to be done around the snapshots of an image. */
struct image_quiesce {
	/*
	 * On a thread of the image's own, which may block; one call at a time. With @begin: a
	 * snapshot is about to be taken, and is refused if this returns a negative errno, after
	 * undoing what it did. Without, after each that returned 0: it was taken, or given up.
	 */
	int (*run)(void *data, bool begin);

	void (*free)(void *data); /* run() is called no more */
	void *data;
};

/* What becomes of the snapshots that an image_quiesce is asked about. */
enum image_snapshots {
	IMAGE_SNAPSHOTS_SERVED,
	IMAGE_SNAPSHOTS_REFUSED, /* new ones; what has begun goes on */
	IMAGE_SNAPSHOTS_ENDED	 /* new ones, and what is begun is undone */
};

struct image_ops {
	const char *name; /* "rbd", "file", ... */

	/* Home thread of the request. Never blocks; completes each request exactly once, later or
	 * at once. */
	void (*submit)(struct image *image, struct request *request);

	/*
	 * Home thread, or NULL where failures are final: a request that failed. True: the image
	 * keeps it, and completes it another time.
	 */
	bool (*take_back)(struct image *image, struct request *request);

	/*
	 * NULL where there are no snapshots. Any thread but a queue's; once, before close. 0 or a
	 * negative errno; takes @quiesce over on success only.
	 */
	int (*watch_snapshots)(struct image *image, const struct image_quiesce *quiesce);

	/*
	 * Where there is watch_snapshots. Any thread but a queue's; does not block. True when
	 * nothing is begun (any more) of what was asked: so call it again until it is.
	 */
	bool (*set_snapshots)(struct image *image, enum image_snapshots to);

	/*
	 * Any thread but a queue's; may block. No request is in flight. Frees the image and all
	 * that it holds. Returns 0 or the negative errno with which the storage ended (the image is
	 * gone anyway).
	 */
	int (*close)(struct image *image);
};

struct image {
	const struct image_ops *ops;
	struct image_info info;
	char identity[IMAGE_IDENTITY_MAX];
	atomic_uint in_flight; /* requests submitted and not completed */

	/*
	 * How often what had been answered may not have been stored, with no request to tell it: a
	 * flush of somebody's who was there before must fail. Any thread adds to it.
	 */
	atomic_uint lost;

	/* Of every request, if set, before the first one; image_close() frees them. */
	struct figures *figures;

	/* See image_listen(). A backend makes it of zeroes. */
	pthread_mutex_t listener_lock;
	void (*changed)(struct image *image, void *data);
	void *changed_data;
};

/*
 * Any thread: @changed is called on a thread of the backend when info.size or info.gone has
 * changed; it must not block. NULL: nobody is called any more, nor is being called when this
 * returns.
 */
void image_listen(struct image *image, void (*changed)(struct image *image, void *data),
		  void *data);

/* Any thread: tells who listens that @image has another size now (if it is another), or is gone. */
void image_set_size(struct image *image, uint64_t size);
void image_set_gone(struct image *image);

/* Any thread: from now on @outer, which listens to @inner, becomes what becomes of that. */
void image_follow(struct image *outer, struct image *inner);

/* Home thread. Takes the request over; refuses through its completion what the image cannot do. */
void image_submit(struct image *image, struct request *request);

/* Any thread: whether the image does requests of that kind at all. */
bool image_takes(const struct image *image, enum request_op op);

/* As the op; -EOPNOTSUPP where there are no snapshots. */
int image_watch_snapshots(struct image *image, const struct image_quiesce *quiesce) warn_unused;

/* As the op; true where there are no snapshots. */
bool image_set_snapshots(struct image *image, enum image_snapshots to);

/*
 * Waits until no request is in flight, then closes. For ever if the storage never answers, so call
 * it on a thread that can wait. NULL is allowed.
 */
int image_close(struct image *image);
