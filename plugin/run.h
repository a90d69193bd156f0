/* Running another program: bounded in time, its words kept for a sentence. */
#pragma once

#include "common/deadline.h"
#include "common/error.h"

#define RUN_OUTPUT_MAX 256

struct run {
	int status;		     /* exit status; 128 + the signal that ended it */
	char output[RUN_OUTPUT_MAX]; /* begin and end of stdout and stderr, on one line */
};

/*
 * Runs argv[0], looked up in PATH, without stdin, in a process group of its own, and waits for it.
 * At the deadline the group gets SIGTERM, and SIGKILL two seconds later. The child keeps @keep_fd
 * (-1: none) open under its number: a lock that must not end before the child does.
 *
 * 0: it ran, see *ret. -ENOENT: there is no such program. -ETIMEDOUT: it was stopped.
 */
int run_program(const char *const argv[], struct timespec deadline, int keep_fd, struct run *ret,
		struct error *err) warn_unused;

/* Makes sure that PATH holds the system's directories; kubelet may have been started with less. */
void run_complete_path(void);
