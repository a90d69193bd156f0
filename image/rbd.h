/*
 * An image in a Ceph cluster, through librbd's asynchronous calls.
 *
 * librbd completes on a thread of its own; the request goes home through its queue's inbox.
 * Negative errno of librbd reach the request as they are, but for -ETIMEDOUT, which is -EIO. While
 * librbd has a request, the request's buffer is librbd's as well.
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

	/* Refused (-EEXIST) where the image's or its pool's metadata has limits (rbd_qos_*), which
	 * go before those of the client. */
	bool client_decides;

	/*
	 * NULL, or what image.identity was when it was open before: that very image is opened, by
	 * its ids, or none (-ESTALE), whatever bears its name now. For writing, -ESTALE as well
	 * if another client than @former_client (unless NULL) has its exclusive lock, or had it:
	 * @former_held says that the former had it to the end, and has it still unless somebody
	 * took it. -EBUSY where it is merely locked by hand.
	 */
	const char *identity;

	/*
	 * NULL, where others may have it meanwhile as they might before; or the addresses of dead
	 * clients that had it open for writing, as in image/fence.h, "" for none. Where they could
	 * not be fenced, @await_former waits until the cluster has given up their watches: as part
	 * of the open, so that one thread waits for that however often it is tried, and -ETIMEDOUT
	 * a second before the open's time is up, so that the next try finds nobody at it.
	 */
	const char *former_client;
	bool former_held, await_former;
};

/*
 * Opens the image within @timeout seconds (0: RBD_CLIENT_TIMEOUT_DEFAULT), and takes a reference to
 * @client. 0, or a negative errno with a sentence. Any thread but a queue's or librados' own. When
 * time runs out the open is left to a thread of its own, which closes what comes of it; until then
 * another open of that image, for writing or not as that one is, waits for it within its own time.
 */
int rbd_image_open(struct rbd_client *client, const struct rbd_image_spec *spec, unsigned timeout,
		   struct image **ret, struct error *err);
