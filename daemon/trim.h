/*
 * Memory of devices and exports that are idle goes back to the kernel: a burst would otherwise cost
 * its deepest and largest moment for good. A thread of its own looks for them, and trims the heap
 * then as well; only buffers are left to the queues.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/error.h"

struct devices;
struct exports;
struct image;
struct trimmer;

/* Since when an image has been idle. Zeroed at first; guarded by the table that the image stands
 * in. */
struct idleness {
	uint64_t answered; /* requests, when it was looked at last */
	time_t since;	   /* of CLOCK_MONOTONIC */
	bool told;
};

/* True once each time that the image, which has figures, was idle for @seconds. */
bool idleness_reached(struct idleness *idleness, const struct image *image, unsigned seconds);

/* The table's part: gives the memory of what has been idle for @seconds back. True if there was
 * any. */
bool devices_trim(struct devices *devices, unsigned seconds);
bool exports_trim(struct exports *exports, unsigned seconds);

/* Both tables outlive it. */
int trimmer_start(unsigned seconds, struct devices *devices, struct exports *exports,
		  struct trimmer **ret, struct error *err) warn_unused;

/* NULL is allowed. */
void trimmer_stop(struct trimmer *trimmer);
