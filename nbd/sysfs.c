#include "nbd/sysfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/command.h"
#include "common/macros.h"

static void path_of(char *path, size_t size, int number, const char *name)
{
	snprintf(path, size, "/sys/block/nbd%d/%s", number, name);
}

/* The first line of an attribute, without its end. */
static bool read_line(int number, const char *name, char *text, size_t size)
{
	cleanup_close int fd = -1;
	char path[128];
	ssize_t length;

	path_of(path, sizeof(path), number, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, size - 1);
	if (length < 0)
		return false;
	text[length] = 0;
	text[strcspn(text, "\n")] = 0;
	return true;
}

bool nbd_sysfs_connected(int number)
{
	char path[128];

	path_of(path, sizeof(path), number, "pid");
	return access(path, F_OK) == 0;
}

int nbd_sysfs_pid(int number)
{
	char text[32];

	return read_line(number, "pid", text, sizeof(text)) ? atoi(text) : 0;
}

bool nbd_sysfs_identifier(int number, char *text, size_t size)
{
	return read_line(number, "backend", text, size);
}

long long nbd_sysfs_limit(int number, const char *name)
{
	char attribute[64], text[32];

	snprintf(attribute, sizeof(attribute), "queue/%s", name);
	return read_line(number, attribute, text, sizeof(text)) ? atoll(text) : -1;
}

int nbd_sysfs_set_limit(int number, const char *name, unsigned value, unsigned seconds)
{
	char attribute[64], path[128], text[16];
	const char *const argv[] = { "sh", "-c", "echo $0 >$1", text, path, NULL };

	if (nbd_sysfs_limit(number, name) == value)
		return 0;
	snprintf(attribute, sizeof(attribute), "queue/%s", name);
	path_of(path, sizeof(path), number, attribute);
	snprintf(text, sizeof(text), "%u", value);
	return command_run(argv, seconds);
}
