#include "ublk/node.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/deadline.h"

/* devtmpfs makes the node before the kernel's command returns; this is for slower makers. */
#define WAIT_MS 500
#define STEP_MS 10

static int read_dev(const char *dev_file, dev_t *ret)
{
	FILE *file = fopen(dev_file, "re");
	unsigned major_number, minor_number;
	int n;

	if (!file)
		return -errno;
	n = fscanf(file, "%u:%u", &major_number, &minor_number);
	fclose(file);
	if (n != 2)
		return -EIO;
	*ret = makedev(major_number, minor_number);
	return 0;
}

/* 1: the node is there and right; 0: nothing is there; -EEXIST: something else is. */
static int look_at(const char *path, mode_t type, dev_t dev)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	return (st.st_mode & S_IFMT) == type && st.st_rdev == dev ? 1 : -EEXIST;
}

static int make(const char *path, mode_t type, dev_t dev, struct ublk_node *node)
{
	if (mknod(path, type | 0600, dev) < 0)
		return errno == EEXIST ? look_at(path, type, dev) : -errno;
	node->made = true;
	return 0;
}

int ublk_node_ensure(const char *path, const char *dev_file, mode_t type, struct ublk_node *ret,
		     struct error *err)
{
	struct ublk_node node = { .made = false };
	dev_t dev = 0;
	int r = 0;

	snprintf(node.path, sizeof(node.path), "%s", path);
	for (int waited = 0; waited < WAIT_MS && r == 0; waited += STEP_MS) {
		r = read_dev(dev_file, &dev);
		if (r == 0)
			r = look_at(path, type, dev);
		if (r == -ENOENT || r == -EEXIST)
			r = 0;
		if (r == 0)
			pause_ms(STEP_MS);
	}
	if (dev == 0)
		return error_set(err, -ENOENT,
				 "%s is not there, so %s cannot be found: mount sysfs on /sys",
				 dev_file, path);
	if (r == 0)
		r = make(path, type, dev, &node);
	if (r == -EEXIST)
		return error_set(err, r, "%s is there but is not the new device: remove it", path);
	if (r < 0)
		return error_set(err, r, "cannot make the device node %s: %s", path, errno_text(r));
	*ret = node;
	return 0;
}

void ublk_node_remove(struct ublk_node *node)
{
	if (node->made)
		unlink(node->path);
	node->made = false;
}
