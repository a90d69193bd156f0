/*
 * urbd-claim DEVICE: opens the block device for itself alone, and lets go of it again. The exit
 * status is 0, or the errno: EBUSY where it is mounted, or another program has it so.
 *
 * urbdd runs this rather than open its own devices, see common/command.h.
 */
#include <errno.h>
#include <fcntl.h>

int main(int argc, char **argv)
{
	if (argc != 2)
		return EINVAL;
	return open(argv[1], O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC) < 0 ? errno : 0;
}
