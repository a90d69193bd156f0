#include "ublk/control.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"
#include "core/ring-order.h"
#include "ublk/abi.h"

#define CONTROL_DEVICE "/dev/ublk-control"
#define RING_ENTRIES   4

/* One command under way. Outlives its caller where the kernel never ends it. */
struct call {
	struct io_uring ring;
	int fd;
	char payload[UBLK_PAYLOAD_MAX];
};

const char *ublk_control_name(unsigned opcode)
{
	switch (opcode) {
	case UBLK_U_CMD_ADD_DEV:
		return "ADD_DEV";
	case UBLK_U_CMD_DEL_DEV:
	case UBLK_U_CMD_DEL_DEV_ASYNC:
		return "DEL_DEV";
	case UBLK_U_CMD_START_DEV:
		return "START_DEV";
	case UBLK_U_CMD_STOP_DEV:
		return "STOP_DEV";
	case UBLK_U_CMD_GET_DEV_INFO:
		return "GET_DEV_INFO";
	case UBLK_U_CMD_SET_PARAMS:
		return "SET_PARAMS";
	case UBLK_U_CMD_START_USER_RECOVERY:
		return "START_USER_RECOVERY";
	case UBLK_U_CMD_END_USER_RECOVERY:
		return "END_USER_RECOVERY";
	case UBLK_U_CMD_GET_FEATURES:
		return "GET_FEATURES";
	case UBLK_U_CMD_UPDATE_SIZE:
		return "UPDATE_SIZE";
	default:
		return "control command";
	}
}

static int call_open(struct call **ret)
{
	struct call *call = calloc(1, sizeof(*call));
	int r;

	if (!call)
		return -ENOMEM;
	call->fd = open(CONTROL_DEVICE, O_RDWR | O_CLOEXEC);
	if (call->fd < 0) {
		r = -errno;
		free(call);
		return r;
	}
	r = io_uring_queue_init(RING_ENTRIES, &call->ring, IORING_SETUP_SQE128);
	if (r < 0) {
		close(call->fd);
		free(call);
		return r;
	}
	ring_begins();
	*ret = call;
	return 0;
}

static void call_close(struct call *call)
{
	ring_ends();
	io_uring_queue_exit(&call->ring);
	close(call->fd);
	free(call);
}

static int call_issue(struct call *call, const struct ublk_control *control)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&call->ring);
	struct ublksrv_ctrl_cmd *cmd;
	int r;

	if (!sqe)
		return -EAGAIN;
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = call->fd;
	sqe->cmd_op = ublk_opcode(control->opcode, control->ioctl_encode);
	io_uring_sqe_set_data(sqe, call);
	cmd = (struct ublksrv_ctrl_cmd *)sqe->cmd;
	cmd->dev_id = control->device;
	cmd->queue_id = UINT16_MAX; /* the command is for no queue */
	cmd->data[0] = control->data;
	if (control->payload) {
		memcpy(call->payload, control->payload, control->size);
		cmd->addr = (uintptr_t)call->payload;
		cmd->len = control->size;
	}
	r = io_uring_submit(&call->ring);
	return r < 0 ? r : 0;
}

/* Waits for the command's completion, passing over those of cancel requests. True: *result is set.
 */
static bool call_wait(struct call *call, unsigned seconds, int *result)
{
	struct timespec deadline = deadline_in(seconds);
	int left;

	while ((left = deadline_left_ms(&deadline)) > 0) {
		struct __kernel_timespec timeout = { .tv_sec = left / 1000,
						     .tv_nsec = left % 1000 * 1000000 };
		struct io_uring_cqe *cqe;
		bool mine;

		if (io_uring_wait_cqe_timeout(&call->ring, &cqe, &timeout) < 0)
			continue;
		mine = io_uring_cqe_get_data(cqe) == call;
		if (mine)
			*result = cqe->res;
		io_uring_cqe_seen(&call->ring, cqe);
		if (mine)
			return true;
	}
	return false;
}

static void call_cancel(struct call *call)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&call->ring);

	if (!sqe)
		return;
	memset(sqe, 0, 2 * sizeof(*sqe));
	io_uring_prep_cancel(sqe, call, 0);
	io_uring_sqe_set_data(sqe, NULL);
	io_uring_submit(&call->ring);
}

/* The deadline, then one second to cancel. */
static bool call_finish(struct call *call, const struct ublk_control *control, int *result)
{
	if (call_wait(call, control->deadline, result))
		return true;
	call_cancel(call);
	if (!call_wait(call, 1, result))
		return false;
	if (*result == -EINTR || *result == -ECANCELED)
		*result = -ETIMEDOUT;
	return true;
}

int ublk_control(const struct ublk_control *control)
{
	struct call *call = NULL;
	int result = 0, r;

	if (control->size > UBLK_PAYLOAD_MAX)
		return -EINVAL;
	r = call_open(&call);
	if (!call)
		return r;
	r = call_issue(call, control);
	if (r == 0 && !call_finish(call, control, &result))
		return -ETIMEDOUT; /* the call is the kernel's now */
	if (r == 0 && result >= 0 && control->payload)
		memcpy(control->payload, call->payload, control->size);
	call_close(call);
	return r < 0 ? r : result;
}

int ublk_control_check(const struct ublk_control *control, struct error *err)
{
	const char *name = ublk_control_name(control->opcode);
	int r = ublk_control(control);

	if (r >= 0)
		return r;
	if (r == -ETIMEDOUT)
		return error_set(
			err, r,
			"the kernel did not finish ublk %s within %u s: look for a hung task "
			"in the kernel's log; a ublk server that hangs while its device is "
			"deleted blocks all others",
			name, control->deadline);
	if (r == -EPERM || r == -EACCES)
		return error_set(err, r,
				 "the kernel refuses ublk %s (%s): run as root with CAP_SYS_ADMIN",
				 name, errno_name(r));
	return error_set(err, r, "the kernel refuses ublk %s: %s (%s)", name, errno_text(r),
			 errno_name(r));
}

int ublk_control_delete(uint32_t device, bool ioctl_encode, unsigned deadline)
{
	struct ublk_control control = {
		.opcode = UBLK_U_CMD_DEL_DEV_ASYNC,
		.ioctl_encode = ioctl_encode,
		.device = device,
		.deadline = deadline,
	};
	int r = ioctl_encode ? ublk_control(&control) : -EOPNOTSUPP;

	if (r != -EOPNOTSUPP)
		return r;
	control.opcode = UBLK_U_CMD_DEL_DEV;
	return ublk_control(&control);
}
