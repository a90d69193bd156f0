/* An I/O command to the ublk driver, as an entry of the ring. Any thread; on the data path. */
#pragma once

#include <liburing.h>
#include <string.h>

#include "ublk/abi.h"

/*
 * Fills @sqe but for its user data. @opcode is in the kernel's encoding, see ublk_opcode(); @cmd is
 * the queue, the tag, its buffer's address and, for a commit, its result.
 */
static inline void ublk_prepare_io(struct io_uring_sqe *sqe, int char_fd, unsigned opcode,
				   const struct ublksrv_io_cmd *cmd)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = char_fd;
	sqe->cmd_op = opcode;
	*(struct ublksrv_io_cmd *)sqe->cmd = *cmd;
}
