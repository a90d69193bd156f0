#include "ublk/probe.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/command.h"
#include "common/macros.h"
#include "ublk/abi.h"
#include "ublk/control.h"
#include "ublk/node.h"

#define CONTROL_NODE "/dev/ublk-control"
#define CONTROL_DEV  "/sys/class/misc/ublk-control/dev"

static bool driver_present(void)
{
	return access(CONTROL_DEV, F_OK) == 0 || access(CONTROL_NODE, F_OK) == 0;
}

/* Whether it helped shows in driver_present(). */
static void load_module(unsigned seconds)
{
	const char *const argv[] = { "modprobe", "-q", "ublk_drv", NULL };

	(void)!command_run(argv, seconds);
}

/* The node stays: it belongs to the driver, not to a device of ours. */
static int ensure_control_node(struct error *err)
{
	struct ublk_node node;

	if (access(CONTROL_NODE, F_OK) == 0)
		return 0;
	return ublk_node_ensure(CONTROL_NODE, CONTROL_DEV, S_IFCHR, &node, err);
}

static int refused(int r, struct error *err)
{
	switch (r) {
	case -EPERM:
	case -EACCES:
		return error_set(err, r,
				 "ublk or io_uring is not allowed here (%s): run as root with "
				 "CAP_SYS_ADMIN, and look at the sysctl kernel.io_uring_disabled",
				 errno_name(r));
	case -ENOSYS:
		return error_set(err, r, "ublk needs io_uring, which this kernel does not have");
	case -ETIMEDOUT:
		return error_set(err, r,
				 "the ublk driver does not answer: look for a hung task in "
				 "the kernel's log");
	default:
		return error_set(err, r, "the ublk driver cannot be asked what it offers: %s (%s)",
				 errno_text(r), errno_name(r));
	}
}

static int ask(unsigned deadline, uint64_t *features)
{
	const struct ublk_control control = {
		.opcode = UBLK_U_CMD_GET_FEATURES,
		.ioctl_encode = true,
		.device = UBLK_ANY_DEVICE,
		.payload = features,
		.size = UBLK_FEATURES_LEN,
		.deadline = deadline,
	};

	return ublk_control(&control);
}

/* Kernels from 6.0 to 6.4 do not know the question; each of them refuses it in its own way. */
static bool unknown_question(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL || r == -ENODEV;
}

int ublk_probe_offer(unsigned deadline, struct ublk_offer *ret, struct error *err)
{
	uint64_t features = 0;
	int r;

	if (!driver_present())
		load_module(deadline);
	if (!driver_present())
		return error_set(
			err, -ENODEV,
			"this kernel has no ublk: it needs Linux 6.0 or newer with the module "
			"ublk_drv (CONFIG_BLK_DEV_UBLK)");
	r = ensure_control_node(err);
	if (r < 0)
		return r;
	r = ask(deadline, &features);
	if (r < 0 && !unknown_question(r))
		return refused(r, err);
	if (r < 0)
		features = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	*ret = (struct ublk_offer){
		.features = features,
		.ioctl_encode = features & UBLK_F_CMD_IOCTL_ENCODE,
	};
	return 0;
}
