/*
 * An image in a Ceph cluster, through librbd's asynchronous calls.
 *
 * librbd completes on a thread of its own; the request goes home through its queue's inbox.
 * Negative errno of librbd reach the request as they are. While librbd has a request, the request's
 * buffer is librbd's as well.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/image.h"
#include "image/client.h"

/* All strings are the caller's, and only read. */
struct rbd_image_spec {
	const char *pool;
	const char *namespace; /* NULL or "": the default one */
	const char *image;
	const char *snapshot; /* NULL or "": the image itself; a snapshot is always read-only */
	bool read_only;

	/*
	 * NULL, or what image.identity was when it was open before: that very image is opened, by
	 * its ids, or none (-ESTALE), whatever bears its name now. For writing, only if no client
	 * but @former_client has its exclusive lock (-EBUSY).
	 */
	const char *identity;

	/*
	 * NULL, or the address of a dead client that had it open for writing: its lock is broken.
	 * Where it could not be fenced (see image/fence.h), @await_former waits until the cluster
	 * has given up its watch.
	 */
	const char *former_client;
	bool await_former;
};

/*
 * Opens the image within @timeout seconds (0: RBD_CLIENT_TIMEOUT_DEFAULT), and takes a reference to
 * @client. 0, or a negative errno with a sentence. Any thread but a queue's or librados' own. When
 * time runs out the open is left to a thread of its own, which closes what comes of it.
 */
int rbd_image_open(struct rbd_client *client, const struct rbd_image_spec *spec, unsigned timeout,
		   struct image **ret, struct error *err);
