/*
 * The figures of an image: how many requests of each kind it served, and how long they took.
 *
 * A request's time falls into three parts, which make up its latency:
 *
 *   frontend   from the turn of the queue that picked it up until image_submit(): decoding, and
 *              waiting behind others that came with it. What the answer takes on its way out is
 *              not in it.
 *   storage    from image_submit() until the backend completes it, on librbd's thread; or where it
 *              completes on the home thread, until the turn that saw it: 0 in the same turn.
 *   queue      from there until the home thread begins the turn in which it empties its inbox; 0
 *              for what completes on the home thread.
 *
 * So the home thread reads the clock once a turn and once a request, librbd's once a request.
 *
 * Each queue has figures of its own, which its thread alone writes. They are allocated when the
 * image is opened; a page of them takes memory from its first use on.
 */
#pragma once

#include <stdint.h>

#include "common/macros.h"
#include "core/histogram.h"
#include "core/request.h"

struct figures;

enum figures_part { FIGURES_FRONTEND, FIGURES_QUEUE, FIGURES_STORAGE, FIGURES_LATENCY };
#define FIGURES_PARTS (FIGURES_LATENCY + 1)

/* What was read of one kind of request, all queues together. */
struct op_figures {
	uint64_t errors;
	uint64_t bytes; /* of requests without error */
	struct histogram_sum parts[FIGURES_PARTS];
};

/* For all queues there are: make those first. NULL when there is no memory. */
struct figures *figures_create(void) warn_unused;

/* NULL is allowed. */
void figures_free(struct figures *figures);

/* Nanoseconds since they were created. Any thread. */
uint64_t figures_age(const struct figures *figures);

/* When they began, in ns of CLOCK_MONOTONIC. Any thread. */
uint64_t figures_since(const struct figures *figures);

/* Any thread: the figures of @op up to now. A snapshot of a path that goes on, see histogram.h. */
void figures_read(const struct figures *figures, enum request_op op, struct op_figures *ret);

/* Any thread: how many requests are over, of whatever kind and with whatever result. */
uint64_t figures_answered(const struct figures *figures);

/* "frontend", "queue", "storage", "latency"; static storage. */
const char *figures_part_name(enum figures_part part);

/* The data path. The home thread, on submission; another one that completes it, before the home
 * thread knows of it; and the home thread when it is over. */
void figures_submitted(struct request *request);
void figures_completed_elsewhere(struct request *request);
void figures_finished(struct figures *figures, const struct request *request);
