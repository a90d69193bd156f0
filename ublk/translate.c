#include "ublk/translate.h"

#include <assert.h>
#include <errno.h>

#define SECTOR_SHIFT 9
#define ERRNO_MAX    4095

static int op_from(unsigned op, enum request_op *ret)
{
	switch (op) {
	case UBLK_IO_OP_READ:
		*ret = REQUEST_READ;
		return 0;
	case UBLK_IO_OP_WRITE:
		*ret = REQUEST_WRITE;
		return 0;
	case UBLK_IO_OP_FLUSH:
		*ret = REQUEST_FLUSH;
		return 0;
	case UBLK_IO_OP_DISCARD:
		*ret = REQUEST_DISCARD;
		return 0;
	case UBLK_IO_OP_WRITE_ZEROES:
		*ret = REQUEST_WRITE_ZEROES;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static bool carries_data(enum request_op op)
{
	return op == REQUEST_READ || op == REQUEST_WRITE;
}

int ublk_request_from(const struct ublksrv_io_desc *desc, uint32_t max_io, struct request *request)
{
	int r = op_from(desc->op_flags & 0xff, &request->op);

	if (r < 0)
		return r;
	request->flags = 0;
	if (desc->op_flags & UBLK_IO_F_FUA)
		request->flags |= REQUEST_FUA;
	if (desc->op_flags & UBLK_IO_F_NOUNMAP)
		request->flags |= REQUEST_NOUNMAP;
	if (request->op == REQUEST_FLUSH) {
		request->offset = request->length = 0;
		return 0;
	}
	request->offset = desc->start_sector << SECTOR_SHIFT;
	request->length = (uint64_t)desc->nr_sectors << SECTOR_SHIFT;
	return carries_data(request->op) && request->length > max_io ? -EINVAL : 0;
}

int32_t ublk_result_of(const struct request *request)
{
	int result = request->result;

	assert(result <= 0 && result >= -ERRNO_MAX);
	if (result > 0 || result < -ERRNO_MAX)
		return -EIO;
	if (result < 0)
		return result;
	return carries_data(request->op) ? (int32_t)request->length : 0;
}
