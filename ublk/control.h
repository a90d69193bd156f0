/*
 * Control commands to the ublk driver: io_uring commands on /dev/ublk-control.
 *
 * Each call has a small ring of its own, on which the kernel runs the command in a worker of the
 * calling thread. Any thread but a queue's; blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/macros.h"

#define UBLK_ANY_DEVICE	 UINT32_MAX
#define UBLK_PAYLOAD_MAX 512

struct ublk_control {
	unsigned opcode; /* UBLK_U_CMD_* */
	bool ioctl_encode;
	uint32_t device;   /* the N of /dev/ublkcN, or UBLK_ANY_DEVICE */
	uint64_t data;	   /* the command's inline argument */
	void *payload;	   /* the command's structure, if any: goes in, and comes back out */
	uint16_t size;	   /* bytes of it, up to UBLK_PAYLOAD_MAX */
	unsigned deadline; /* seconds */
};

/*
 * The command's result: 0 or more, or the kernel's negative errno. -ETIMEDOUT: it did not end in
 * time and could not be cancelled; what the kernel may still write to is left to it.
 */
int ublk_control(const struct ublk_control *control) warn_unused;

/* As ublk_control, and a sentence on failure. */
int ublk_control_check(const struct ublk_control *control, struct error *err) warn_unused;

/*
 * DEL_DEV, in the asynchronous form where the kernel has it: the plain one also waits for whoever
 * still has the dead block device open. 0 or more, or a negative errno.
 */
int ublk_control_delete(uint32_t device, bool ioctl_encode, unsigned deadline) warn_unused;

/* "ADD_DEV", ... static storage. */
const char *ublk_control_name(unsigned opcode);
