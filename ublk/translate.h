/* Between the driver's words for an I/O and ours. Both run on the data path. */
#pragma once

#include "core/request.h"
#include "ublk/abi.h"

/*
 * Fills op, flags, offset and length of @request from what the kernel asks. 0; -EOPNOTSUPP where no
 * image could serve it; -EINVAL where a read or write is larger than @max_io bytes.
 */
int ublk_request_from(const struct ublksrv_io_desc *desc, uint32_t max_io, struct request *request);

/*
 * The result that goes to the kernel for @request: the bytes done, or a negative errno. It is the
 * one place that makes it, because the kernel takes every positive number for success: an errno
 * with the wrong sign would report data that was never written.
 *
 * The block layer knows an errno only if it has a status for it: EOPNOTSUPP, ETIMEDOUT, ENOSPC,
 * ENOLINK, EREMOTEIO, EBADE, ENODATA, EILSEQ, ENOMEM, EBUSY, EAGAIN, EIO. All others become EIO
 * there.
 */
int32_t ublk_result_of(const struct request *request);
