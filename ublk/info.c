#include "ublk/info.h"

#include <signal.h>
#include <unistd.h>

int ublk_get_info(struct ublk_control get, struct ublksrv_ctrl_dev_info *ret, struct error *err)
{
	*ret = (struct ublksrv_ctrl_dev_info){ 0 };
	get.payload = ret;
	get.size = sizeof(*ret);
	return MIN(ublk_control_check(&get, err), 0);
}

bool ublk_is_served(const struct ublksrv_ctrl_dev_info *info)
{
	return info->state == UBLK_S_DEV_LIVE && info->ublksrv_pid > 0 &&
	       info->ublksrv_pid != getpid() && kill(info->ublksrv_pid, 0) == 0;
}
