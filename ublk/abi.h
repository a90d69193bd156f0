/*
 * What ublk in newer kernels has beyond the header that Debian 12 ships (Linux 6.1).
 *
 * Numbers and bits are those of the kernel's include/uapi/linux/ublk_cmd.h; the layout of the
 * structures in Debian's header has not changed since, only grown names for what was padding.
 * Kernels from 6.4 on want the opcodes in ioctl encoding and may refuse the plain numbers; the
 * plain number of an encoded opcode is _IOC_NR() of it.
 */
#pragma once

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>
#include <stdbool.h>

/* Feature bits: of GET_FEATURES, and of ublksrv_ctrl_dev_info.flags. */
#ifndef UBLK_F_UNPRIVILEGED_DEV
#define UBLK_F_UNPRIVILEGED_DEV (1ULL << 5) /* 6.3 */
#endif
#ifndef UBLK_F_CMD_IOCTL_ENCODE
#define UBLK_F_CMD_IOCTL_ENCODE (1ULL << 6) /* 6.4 */
#endif
#ifndef UBLK_F_USER_COPY
#define UBLK_F_USER_COPY (1ULL << 7) /* 6.5 */
#endif
#ifndef UBLK_F_UPDATE_SIZE
#define UBLK_F_UPDATE_SIZE (1ULL << 10) /* 6.16 */
#endif
#ifndef UBLK_F_QUIESCE
#define UBLK_F_QUIESCE (1ULL << 12) /* 6.16 */
#endif

#ifndef UBLK_FEATURES_LEN
#define UBLK_FEATURES_LEN 8 /* bytes of the answer to GET_FEATURES */
#endif

/* Control commands, on /dev/ublk-control. */
#ifndef UBLK_U_CMD_ADD_DEV
#define UBLK_U_CMD_ADD_DEV    _IOWR('u', UBLK_CMD_ADD_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_DEL_DEV    _IOWR('u', UBLK_CMD_DEL_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_DEV  _IOWR('u', UBLK_CMD_START_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_STOP_DEV   _IOWR('u', UBLK_CMD_STOP_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_SET_PARAMS _IOWR('u', UBLK_CMD_SET_PARAMS, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_GET_DEV_INFO
#define UBLK_U_CMD_GET_DEV_INFO _IOR('u', UBLK_CMD_GET_DEV_INFO, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_START_USER_RECOVERY
#define UBLK_U_CMD_START_USER_RECOVERY \
	_IOWR('u', UBLK_CMD_START_USER_RECOVERY, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_END_USER_RECOVERY _IOWR('u', UBLK_CMD_END_USER_RECOVERY, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_GET_FEATURES
#define UBLK_U_CMD_GET_FEATURES _IOR('u', 0x13, struct ublksrv_ctrl_cmd) /* 6.5 */
#endif
#ifndef UBLK_U_CMD_DEL_DEV_ASYNC
#define UBLK_U_CMD_DEL_DEV_ASYNC _IOR('u', 0x14, struct ublksrv_ctrl_cmd) /* 6.7 */
#endif
#ifndef UBLK_U_CMD_UPDATE_SIZE
#define UBLK_U_CMD_UPDATE_SIZE _IOWR('u', 0x15, struct ublksrv_ctrl_cmd) /* 6.16 */
#endif

/* I/O commands, on /dev/ublkcN. */
#ifndef UBLK_U_IO_FETCH_REQ
#define UBLK_U_IO_FETCH_REQ _IOWR('u', UBLK_IO_FETCH_REQ, struct ublksrv_io_cmd)
#define UBLK_U_IO_COMMIT_AND_FETCH_REQ \
	_IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, struct ublksrv_io_cmd)
#endif

_Static_assert(sizeof(struct ublksrv_ctrl_cmd) == 32, "a control command fills half an SQE128");
_Static_assert(sizeof(struct ublksrv_io_cmd) == 16, "an I/O command fits a plain SQE");
_Static_assert(sizeof(struct ublksrv_ctrl_dev_info) == 64, "as in every kernel");
_Static_assert(sizeof(struct ublksrv_io_desc) == 24, "as in every kernel");

/* The opcode in the encoding that the kernel takes. */
static inline unsigned ublk_opcode(unsigned encoded, bool ioctl_encode)
{
	return ioctl_encode ? encoded : _IOC_NR(encoded);
}
