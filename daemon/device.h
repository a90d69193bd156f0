/*
 * Inside of the device table: shared by devices.c (table), device.c (one device), map.c, unmap.c,
 * follow.c and report.c.
 *
 * A device is in the table from the moment its identity is known: mapping → live (→ resizing →
 * live) → stopping, then it leaves the table; failed, when its image was removed. One that an
 * earlier daemon left in the kernel begins as quiesced: its I/O waits until recovery.c has its
 * image open (→ mapping → live), or until an unmap by force takes it away; failed, with I/O that
 * fails, when its image is gone for good. A live one whose client was cut off from the cluster is
 * blocked (→ mapping → live) until replace.c has another client for it. A stop that failed leaves
 * the device live where the frontend had not begun to take it away (it is in use, or its storage
 * does not answer), and otherwise failed: it serves nobody and is handed out to nobody, but its
 * image is open and the kernel may have it, until another unmap succeeds. Whoever changes a state
 * wakes all waiters. Only the caller that moved a device to `mapping`, `resizing` or `stopping`
 * works on it, without the lock; the others wait for the next change or for their deadline.
 *
 * What is left of a device is released on a thread of its own: first what the kernel has of it,
 * then the record, but only when the kernel has nothing left; then frontend memory, image and
 * client, which an image of a dead cluster can hold for ever.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "common/deadline.h"
#include "common/list.h"
#include "common/sweeper.h"
#include "core/frontend.h"
#include "daemon/devices.h"
#include "daemon/opener.h"
#include "daemon/trim.h"

#define DEVICE_SPEC_MAX	  512
#define DEVICE_FORMER_MAX 512

enum device_state {
	DEVICE_QUIESCED,
	DEVICE_MAPPING,
	DEVICE_LIVE,
	DEVICE_BLOCKED,
	DEVICE_RESIZING,
	DEVICE_STOPPING,
	DEVICE_FAILED
};

/* What stalls.c knows of a device; times of CLOCK_MONOTONIC in seconds, 0: not at all. */
struct stall {
	uint64_t answered; /* requests, when it looked last */
	time_t since;	   /* it has had requests, and none of them was answered */
	time_t told_at;	   /* `reason` says so */
};

struct device {
	struct list entry; /* in devices.table; everything below is guarded by devices.lock */
	enum device_state state;
	unsigned id;
	bool detached; /* the kernel has been told to forget it */
	bool released;
	unsigned references; /* of the table or whoever made it, and of threads that look at it */
	char path[32];	     /* "/dev/ublkb0"; "" until it is known */
	char reason[ERROR_TEXT_MAX]; /* why it serves nobody or its I/O waits; "" otherwise */
	struct stall stall;
	atomic_uint forcing; /* unmaps by force that wait for who works on it, and who gives way */
	unsigned closing; /* images that it had and that are not closed yet: no other is opened */
	bool detaching;	  /* blocked, and somebody takes its image away from its gate */
	bool forsaken;	  /* blocked, and nobody opens its image: the replacer sees to that */
	bool reopening;	  /* somebody opens its image anew, and works on it only at the end */
	struct idleness idleness;

	/* Set once before the device is inserted. */
	struct devices *devices;
	char identity[IMAGE_IDENTITY_MAX];
	bool read_only;
	json_t *names;	/* {type, pool, namespace, image, snapshot} */
	json_t *access; /* what a record needs to open the image again, key included */

	/* Its clients before this one, where they may still have the lock or have sent something;
	 * addresses as in image/fence.h. Whether the last of them had the lock to the end. */
	char former[DEVICE_FORMER_MAX];
	bool former_held;
	bool shared; /* others may have it, until it is open again */
	bool lost;   /* its image may not be served any more, also not by a later daemon */

	/* Set while it is mapping; frontend under the lock, because others look for its path. */
	struct opened opened; /* its image is that of the gate */
	struct gate *gate;
	atomic_bool cut_off; /* its client is; set on any thread */
	bool resize_due;     /* a thread of resize.c is about to look at its size */
	struct frontend *frontend;
	unsigned long long record; /* the serial of its record; 0: none yet */
	time_t mapped_at;
};

struct devices {
	struct devices_config config;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct list table;
	unsigned releasing; /* threads that release, resize or recover: the table outlives them */
	struct sweeper replacer; /* woken when a device is `cut_off` or `forsaken` */
	pthread_t watcher;	 /* of stalls.c, until leaving */
	bool leaving;		 /* the daemon ends: nobody begins anything */
};

/* device.c */

int device_new(struct devices *devices, const struct map_request *request, struct device **ret,
	       struct error *err) warn_unused;

/* With the lock. The last one to look at it frees it. */
static inline void device_get(struct device *device)
{
	device->references++;
}
void device_put(struct device *device);

/* A device that is in no table and holds no image. */
void device_free(struct device *device);

/*
 * Releases a device that is in no table (any more), waiting until @deadline at most for the kernel
 * to let go of it, and until @image_deadline for its image. The caller may not touch it afterwards.
 * False when it takes longer; it goes on by itself then.
 */
bool device_release(struct device *device, const struct timespec *deadline,
		    const struct timespec *image_deadline);

/*
 * With the lock: closes what is open on a thread of its own, because a cluster that does not answer
 * takes its time. @opened is empty afterwards; nothing happens if it was before.
 */
void close_aside(struct devices *devices, struct opened *opened);

/*
 * Without the lock: likewise, but for a device, which has nothing open then and is `closing` until
 * it is done. @frontend, unless NULL, is destroyed first: it has been detached, but the image may
 * still use its memory.
 */
void device_close_aside(struct device *device, struct frontend *frontend, struct opened *opened);

/* Strings are the device's. */
void device_names(const struct device *device, struct image_names *ret);

/* The device at @path that @record tells of. NULL: out of memory. */
struct device *device_restore(struct devices *devices, const char *path,
			      json_t *record) warn_unused;

/* What it takes to open the image of @device once more; strings are the device's. */
void device_request(const struct device *device, struct map_request *ret);

/* What its frontend marks it with; the name is the device's. */
struct frontend_mark device_mark(const struct device *device);
/* NULL: it has none. The device's. */
const char *device_quiesce_hook(const struct device *device);

/* With the lock: -EBUSY, with the sentence for one that is not live because it waits or has failed.
 */
int device_refuse(const struct device *device, struct error *err);

/* For logs; @buffer has DEVICE_SPEC_MAX bytes. */
void device_spec(const struct device *device, char *buffer);

/*
 * map.c: makes the open image of a device that the caller works on a block device, or takes that
 * back. What it made of it so far stays with the device after a failure.
 */
int device_start(struct device *device, const struct map_request *request,
		 const struct timespec *deadline, struct error *err) warn_unused;

/* map.c: writes its record anew. */
int device_write_record(struct device *device, struct error *err) warn_unused;

/* map.c: from now on its present client, which is cut off, is one of the former. */
void device_remember_client(struct device *device);

/* map.c: its image is about to be closed, which lets the lock go: the record does not claim it any
 * more. 0, or a negative errno with a sentence: it does still. */
int device_give_lock(struct device *device, struct error *err) warn_unused;

/* map.c: all of @opened but the image, which is behind the gate. */
void device_set_opened(struct device *device, const struct opened *opened);

/*
 * map.c: before anything is written through an open image: the record names its client, then the
 * lock is taken, then the record says so. So a death at any moment leaves a record by which the
 * lock's owner is known. 0, or a negative errno with a sentence, see opener_take_lock().
 */
int device_take_lock(struct device *device, const struct map_request *request,
		     struct error *err) warn_unused;

/*
 * drain.c: holds the I/O of a device that the caller works on, and closes its image, until
 * @deadline at most, or until an unmap by force wants it. *ret_why is set where the image must not
 * be closed: its client was cut off and another one will follow it, or there is no space for the
 * record that would say so.
 */
enum image_end {
	IMAGE_HELD, /* it is still open, and its I/O only held: it had requests, or see @ret_why */
	IMAGE_CLOSING, /* it goes on being closed by itself; the record still names its client */
	IMAGE_CLOSED   /* the record says that nobody has it open */
};
enum image_end device_close_image(struct device *device, const struct timespec *deadline,
				  struct error *ret_why);

/* drain.c: of IMAGE_HELD: it is live again, with the image that is open yet. */
void device_go_on(struct device *device);

/*
 * replace.c: a device whose image was closed goes on with @opened, which @request asked for, and is
 * live. After a failure @opened is empty, and the device `closing` until that is closed.
 */
int device_attach(struct device *device, const struct map_request *request, struct opened *opened,
		  struct error *err) warn_unused;

/*
 * replace.c: opens the image of a blocked device that has none, as @request says, and the device is
 * live; unless somebody else works on it by then (-ECANCELED, without a sentence). After a failure
 * it is blocked still, and may be `closing`.
 */
int device_reopen(struct device *device, const struct map_request *request,
		  struct opener_tries *tries, struct error *err) warn_unused;

/* replace.c: likewise, but a thread goes on trying, and the device fails where that is no use. */
void device_await_image(struct device *device);

/* replace.c: a gate's `cut_off`; @data is its device. */
void device_cut_off(void *data);

/*
 * device.c: of a device that the caller works on: what waits, and all that comes, ends in EIO. What
 * is left to do is to unmap it.
 */
void device_fail(struct device *device, const char *why);

/* replace.c: the thread that looks after devices that are cut off. 0 or a negative errno. */
int replacer_start(struct devices *devices) warn_unused;
void replacer_stop(struct devices *devices);

/* stalls.c: the thread that says why I/O waits. */

int stalls_start(struct devices *devices) warn_unused;
void stalls_stop(struct devices *devices);

/* recovery.c: why it waits, for status. */
void device_set_reason(struct device *device, const char *reason);

/*
 * follow.c: the device that the caller works on is live from here on, and becomes what became of
 * its image: news of that may have come in vain meanwhile.
 */
void device_set_live(struct device *device);

/* follow.c: bytes of the block device at @path; 0 where it does not tell. */
uint64_t device_kernel_size(const char *path);

/* follow.c: for image_listen(); @data is its device. */
void device_image_changed(struct image *image, void *data);

/* devices.c. "With the lock" is devices->lock. */

/* With the lock. False once @deadline (CLOCK_MONOTONIC) has passed. */
bool wait_change(struct devices *devices, const struct timespec *deadline);

/* With the lock. NULL when there is none. */
struct device *find_identity(struct devices *devices, const char *identity);
struct device *find_path(struct devices *devices, const char *path);

/* With the lock. False while somebody works on it, or it waits for its image. */
static inline bool device_is_idle(const struct device *device)
{
	return device->state == DEVICE_LIVE || device->state == DEVICE_FAILED;
}

/* With the lock. Somebody works on it, which will end. */
static inline bool device_is_busy(const struct device *device)
{
	return device->state == DEVICE_MAPPING || device->state == DEVICE_RESIZING ||
	       device->state == DEVICE_STOPPING || device->detaching;
}

/* unmap.c, with the lock. NULL with -ENXIO in @err when there is none, -ENOTUNIQ when there are
 * several. */
struct device *find_named(struct devices *devices, const struct unmap_request *request,
			  struct error *err);

/* With the lock. The device gets its id and is mapping. */
void enter_table(struct devices *devices, struct device *device);

/* Without the lock. */
void leave_table(struct device *device);
void set_state(struct device *device, enum device_state state);

/*
 * Without the lock: makes the caller the one that works on a device which is @from, and which has
 * @opened then unless that is NULL. False when somebody else does, or the daemon ends.
 */
bool device_claim(struct device *device, enum device_state from,
		  const struct opened *opened) warn_unused;
