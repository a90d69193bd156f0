/*
 * half-recovery NUMBER QUEUES DEPTH - begins to take /dev/ublkbNUMBER back, as a server does that
 * dies within: START_USER_RECOVERY, then every tag of the first QUEUES hardware queues, each DEPTH
 * deep, fetched.
 *
 * The device must wait for a server. Tries for 30 s, as the kernel takes its time to put away what
 * the last one had open.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/deadline.h"
#include "ublk/abi.h"
#include "ublk/control.h"
#include "ublk/io_command.h"

static char buffer[1 << 20];

static int start_recovery(unsigned number)
{
	const struct ublk_control start = {
		.opcode = UBLK_U_CMD_START_USER_RECOVERY,
		.ioctl_encode = true,
		.device = number,
		.deadline = 30,
	};
	struct timespec deadline = deadline_in(30);
	int r;

	while ((r = ublk_control(&start)) == -EBUSY && !deadline_passed(&deadline))
		pause_ms(10);
	return r;
}

static void fetch(struct io_uring *ring, int fd, unsigned queue, unsigned tag)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	const struct ublksrv_io_cmd cmd = {
		.q_id = (uint16_t)queue,
		.tag = (uint16_t)tag,
		.addr = (uintptr_t)buffer,
	};

	if (!sqe)
		exit(1);
	ublk_prepare_io(sqe, fd, UBLK_U_IO_FETCH_REQ, &cmd);
}

/* 0, or 1 when the kernel refuses one: those that it takes do not complete. */
static int fetch_all(int fd, unsigned queues, unsigned depth)
{
	struct io_uring ring;

	if (io_uring_queue_init(depth, &ring, 0) < 0)
		return 1;
	for (unsigned queue = 0; queue < queues; queue++) {
		for (unsigned tag = 0; tag < depth; tag++)
			fetch(&ring, fd, queue, tag);
		if (io_uring_submit(&ring) != (int)depth || io_uring_cq_ready(&ring) > 0)
			return 1;
	}
	return 0; /* the ring ends with the process */
}

int main(int argc, char **argv)
{
	char path[64];
	int fd, r;

	if (argc != 4) {
		fprintf(stderr, "usage: half-recovery NUMBER QUEUES DEPTH\n");
		return 2;
	}
	r = start_recovery((unsigned)atoi(argv[1]));
	if (r < 0) {
		fprintf(stderr, "half-recovery: START_USER_RECOVERY: %s\n", strerror(-r));
		return 1;
	}
	snprintf(path, sizeof(path), "/dev/ublkc%s", argv[1]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) {
		perror(path);
		return 1;
	}
	return fetch_all(fd, (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
}
