/* What the driver tells about a device. Any thread but a queue's; blocks. */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "ublk/abi.h"
#include "ublk/control.h"

/* Fills *ret by @get, a UBLK_U_CMD_GET_DEV_INFO without payload. 0, or a negative errno. */
int ublk_get_info(struct ublk_control get, struct ublksrv_ctrl_dev_info *ret,
		  struct error *err) warn_unused;

/* A living process other than this one serves it. */
bool ublk_is_served(const struct ublksrv_ctrl_dev_info *info);
