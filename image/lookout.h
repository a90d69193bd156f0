/*
 * Looks whether an object is still there, every few seconds: for images that nobody tells of their
 * removal. One thread asks for all of them and waits for no answer, so a cluster that is silent
 * holds up nobody else's; there is none while nothing is looked after.
 */
#pragma once

#include <rados/librados.h>
#include <stdbool.h>

#include "common/list.h"

struct lookout {
	/* The caller's, which lookout_stop() gives back. */
	rados_ioctx_t ioctx;
	const char *object;
	void (*gone)(
		void *data); /* on a thread of librados; must not block; maybe more than once */
	void *data;

	/* lookout.c's. */
	struct list entry;
	rados_completion_t question; /* the last one, or NULL */
	bool asked;		     /* and not answered yet */
};

/* 0 or a negative errno. Any thread. */
int lookout_start(struct lookout *lookout);

/* gone() is called no more. Any thread but librados' own; does not wait for the cluster. */
void lookout_stop(struct lookout *lookout);
