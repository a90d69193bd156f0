/*
 * A request: one I/O on its way from a frontend's tag to an image and back.
 *
 * The frontend owns it, makes it when the device starts, and fills it for each I/O. From
 * image_submit() until done() is called it belongs to the image, buffer included. It is completed
 * exactly once, on the thread of its home queue.
 */
#pragma once

#include <stdint.h>

#include "core/queue.h"

struct image;

enum request_op {
	REQUEST_READ,
	REQUEST_WRITE,
	REQUEST_FLUSH,	 /* offset and length are 0; covers every write completed before its
			    submission */
	REQUEST_DISCARD, /* advice: the range may read as zeroes or as before */
	REQUEST_WRITE_ZEROES,
	REQUEST_EXTENTS, /* what is allocated in the range: fills request.extents */
	REQUEST_OPS
};

enum request_flag {
	REQUEST_FUA = 1 << 0,	  /* write, write-zeroes: stable when completed */
	REQUEST_NOUNMAP = 1 << 1, /* write-zeroes: keep the range allocated */
	REQUEST_FAST_ZERO =
		1 << 2, /* write-zeroes: -EOPNOTSUPP unless faster than writing zeroes */
};

/* One run of a REQUEST_EXTENTS answer. */
struct extent {
	uint64_t length; /* bytes */
	bool data;	 /* false: a hole, which reads as zeroes */
};

/* The answer's room. Runs follow one another from the request's offset; together they may end
 * early. */
struct extents {
	unsigned max;	     /* set by the frontend, at least 1 */
	unsigned count;	     /* set by the image */
	struct extent *list; /* the frontend's memory */
};

/* Words of memory that the image may use between submit and completion. */
#define REQUEST_SCRATCH 6

struct request {
	/* Filled by the frontend. */
	enum request_op op;
	uint32_t flags;		 /* enum request_flag */
	uint64_t offset;	 /* bytes */
	uint64_t length;	 /* bytes */
	void *buffer;		 /* read, write: length bytes; for direct I/O aligned to 4096 */
	struct extents *extents; /* REQUEST_EXTENTS */
	struct queue *home;
	void (*done)(struct request *request); /* on home's thread; result is set */

	/* 0, or a negative errno that reaches the block device as it is. A short read is an error.
	 */
	int result;

	/* For the image's figures, see core/clock.h; core's alone. */
	uint64_t picked_up_at, submitted_at;
	uint64_t completed_at; /* 0: by the home thread */

	/* The image's between submit and completion. */
	struct image *image;
	struct work work;
	struct ring_op ring_op;
	uintptr_t scratch[REQUEST_SCRATCH];
};

/*
 * Any thread, once a request: ends it with @result. On the home thread done() runs before this
 * returns, from any other thread it goes through the home queue's inbox.
 */
void request_complete(struct request *request, int result);

/* "read", "write", ... static storage. */
const char *request_op_name(enum request_op op);
