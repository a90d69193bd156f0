/*
 * block-io DEVICE OP OFFSET LENGTH: one direct I/O on a block device, and what errno it ended with.
 *
 * OP: read, write, fua (a write that is stable when it returns), flush, discard, zeroout (zeroes,
 * keeps the range allocated), punch (zeroes, may free the range). Prints OK or the errno's name,
 * and ends with 0 either way; 2 on usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/error.h"
#include "common/parse.h"

#define ALIGNMENT 4096
#define FILLER	  0xa5

static int transfer(int fd, const char *op, off_t offset, size_t length)
{
	void *buffer = aligned_alloc(ALIGNMENT, (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
	struct iovec iov = { .iov_base = buffer, .iov_len = length };
	ssize_t n;
	int r = 0;

	if (!buffer)
		return -ENOMEM;
	memset(buffer, FILLER, length);
	if (strcmp(op, "read") == 0)
		n = preadv(fd, &iov, 1, offset);
	else
		n = pwritev2(fd, &iov, 1, offset, strcmp(op, "fua") == 0 ? RWF_DSYNC : 0);
	if (n < 0)
		r = -errno;
	else if ((size_t)n != length)
		r = -EMSGSIZE;
	free(buffer);
	return r;
}

static int perform(int fd, const char *op, off_t offset, size_t length)
{
	uint64_t range[2] = { (uint64_t)offset, length };
	int r;

	if (strcmp(op, "read") == 0 || strcmp(op, "write") == 0 || strcmp(op, "fua") == 0)
		return transfer(fd, op, offset, length);
	if (strcmp(op, "flush") == 0)
		r = fsync(fd);
	else if (strcmp(op, "discard") == 0)
		r = ioctl(fd, BLKDISCARD, range);
	else if (strcmp(op, "zeroout") == 0)
		r = ioctl(fd, BLKZEROOUT, range);
	else if (strcmp(op, "punch") == 0)
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			      (off_t)length);
	else
		exit(2);
	return r < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
	uint64_t offset, length;
	int fd, r;

	if (argc != 5 || parse_size(argv[3], &offset) < 0 || parse_size(argv[4], &length) < 0) {
		fprintf(stderr, "usage: block-io DEVICE OP OFFSET LENGTH\n");
		return 2;
	}
	fd = open(argv[1], (strcmp(argv[2], "read") == 0 ? O_RDONLY : O_RDWR) | O_DIRECT);
	if (fd < 0) {
		printf("%s\n", errno_name(errno));
		return 0;
	}
	r = perform(fd, argv[2], (off_t)offset, length);
	printf("%s\n", r < 0 ? errno_name(r) : "OK");
	close(fd);
	return 0;
}
