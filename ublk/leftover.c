#include "ublk/leftover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "ublk/abi.h"
#include "ublk/control.h"
#include "ublk/info.h"
#include "ublk/probe.h"

#define DEADLINE 10 /* seconds a command */

/* Also true of a device that was added but never started. */
static bool exists(int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/ublk-char/ublkc%d", number);
	return access(path, F_OK) == 0 || errno != ENOENT;
}

static struct ublk_control command(int number, unsigned opcode, const struct ublk_offer *offer)
{
	return (struct ublk_control){ .opcode = opcode,
				      .ioctl_encode = offer->ioctl_encode,
				      .device = (uint32_t)number,
				      .deadline = DEADLINE };
}

static int get_info(int number, const struct ublk_offer *offer, struct ublksrv_ctrl_dev_info *ret,
		    struct error *err)
{
	return ublk_get_info(command(number, UBLK_U_CMD_GET_DEV_INFO, offer), ret, err);
}

/* A server that has not started its device yet has it open; the kernel lets nobody else do so. */
static bool is_open(int number)
{
	cleanup_close int fd = -1;
	char path[32];

	snprintf(path, sizeof(path), "/dev/ublkc%d", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 && errno == EBUSY;
}

static int check_unserved(int number, const struct ublksrv_ctrl_dev_info *info, struct error *err)
{
	if (ublk_is_served(info))
		return error_set(err, -EBUSY, "process %d serves it", info->ublksrv_pid);
	if (info->state == UBLK_S_DEV_DEAD && is_open(number))
		return error_set(err, -EBUSY, "another process is starting it");
	return 0;
}

/* 1; 0 when there is none; a negative errno when that cannot be told. */
static int find(int number, struct ublk_offer *ret_offer, struct ublksrv_ctrl_dev_info *ret,
		struct error *err)
{
	int r;

	if (!exists(number))
		return 0;
	r = ublk_probe_offer(DEADLINE, ret_offer, err);
	if (r == 0)
		r = get_info(number, ret_offer, ret, err);
	if (r == -ENODEV && !exists(number))
		return 0;
	return r < 0 ? r : 1;
}

int ublk_look(int number, const struct frontend_mark *mark, struct error *err)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublk_offer offer;
	int r = find(number, &offer, &info, err);

	if (r <= 0)
		return r < 0 ? r : LEFTOVER_NONE;
	if (info.ublksrv_flags != mark->owner)
		return LEFTOVER_OTHERS;
	return info.state == UBLK_S_DEV_DEAD ? LEFTOVER_UNUSED : LEFTOVER_WAITS;
}

bool ublk_orphan(int number)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublk_offer offer;
	struct error ignored;

	if (find(number, &offer, &info, &ignored) <= 0)
		return false;
	if (info.state == UBLK_S_DEV_DEAD)
		return !is_open(number);
	return !ublk_is_served(&info) && info.ublksrv_pid != getpid();
}

static int remove_device(int number, const struct ublk_offer *offer, struct error *err)
{
	struct ublk_control stop = command(number, UBLK_U_CMD_STOP_DEV, offer);
	int r = ublk_control_check(&stop, err);

	if (r < 0)
		return r;
	r = ublk_control_delete((uint32_t)number, offer->ioctl_encode, DEADLINE);
	return r < 0 ? error_set(err, r, "the kernel does not delete it: %s", errno_text(r)) : 0;
}

int ublk_discard(int number, const struct frontend_mark *mark, struct error *err)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublk_offer offer;
	int r = find(number, &offer, &info, err);

	if (r <= 0)
		return r;
	if (mark && info.ublksrv_flags != mark->owner)
		return 0;
	r = check_unserved(number, &info, err);
	if (r == 0)
		r = remove_device(number, &offer, err);
	return r == -ENODEV ? 0 : r;
}

static bool is_unstarted(int number, uint64_t owner)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublk_offer offer;
	struct error ignored;

	return find(number, &offer, &info, &ignored) > 0 && info.ublksrv_flags == owner &&
	       info.state == UBLK_S_DEV_DEAD && !is_open(number);
}

void ublk_discard_unstarted(uint64_t owner)
{
	DIR *devices = opendir("/sys/class/ublk-char");
	struct error err = ERROR_NONE;
	struct dirent *entry;
	int number;

	while (devices && (entry = readdir(devices)))
		if (sscanf(entry->d_name, "ublkc%d", &number) == 1 && is_unstarted(number, owner) &&
		    ublk_discard(number, NULL, &err) < 0)
			log_warning("/dev/ublkc%d is left from a start that was cut off: %s.",
				    number, err.text);
	if (devices)
		closedir(devices);
}
