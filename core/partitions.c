#include "core/partitions.h"

#include <errno.h>
#include <stddef.h>

#include "common/command.h"

int partitions_read(const char *device, unsigned seconds)
{
	const char *const argv[] = { "partx", "--add", device, NULL };

	return command_run(argv, seconds) == -ETIMEDOUT ? -ETIMEDOUT : 0;
}
