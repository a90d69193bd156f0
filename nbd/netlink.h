/*
 * The commands of the kernel's NBD driver over generic netlink (include/uapi/linux/nbd-netlink.h,
 * drivers/block/nbd.c). The kernel carries a command out while it is being sent, so all of these
 * block; but not for longer than @seconds, or some seconds where there is none. After -ETIMEDOUT
 * the kernel may carry it out yet. Any thread but a queue's. They return 0 or a negative errno with
 * a sentence, where nothing else is said.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

struct nbd_netlink_device {
	int number;		/* N of /dev/nbdN */
	uint64_t size;		/* bytes */
	uint32_t block_size;	/* bytes, 512..page size */
	uint16_t server_flags;	/* NBD_FLAG_* */
	const char *identifier; /* has to be the same for everything that is done later; kernels
				   before 5.14 do not know it */
	unsigned timeout;	/* seconds after which a request's socket counts as dead; 0: never,
				   where there is one socket */
	unsigned dead_timeout;	/* seconds that requests wait for a new socket when all are dead */
	const int *sockets;	/* one for each hardware queue */
	unsigned nr_sockets;
};

/* Whether the kernel answers at all. -EOPNOTSUPP without the driver. */
int nbd_netlink_probe(struct error *err);

/* Whether it keeps the identifiers of devices: 1 or 0, or as nbd_netlink_probe(). */
int nbd_netlink_has_identifiers(struct error *err);

/* Makes the device live. -EBUSY when the number is in use. */
int nbd_netlink_connect(const struct nbd_netlink_device *device, unsigned seconds,
			struct error *err);

/* Takes the device's sockets away and fails what is in flight with EIO. */
int nbd_netlink_disconnect(int number, unsigned seconds, struct error *err);

/* Changes a live device: its size where @size is not 0, and dead sockets for the new ones. */
int nbd_netlink_reconfigure(const struct nbd_netlink_device *device, unsigned seconds,
			    struct error *err);
