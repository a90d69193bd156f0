#include "plugin/run.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "common/cleanup.h"

#define TERMINATION_MS 2000
#define POLL_MS	       20

extern char **environ;

void run_complete_path(void)
{
	static const char system_path[] = "/usr/sbin:/usr/bin:/sbin:/bin";
	const char *old = getenv("PATH");
	cleanup_free char *path = NULL;

	if (!old || !*old)
		setenv("PATH", system_path, 1);
	else if (asprintf(&path, "%s:%s", old, system_path) >= 0)
		setenv("PATH", path, 1);
}

/* What the kept output begins with, and what stands for the words that are left out behind it. */
#define HEAD 120
#define GAP  " ... "

/* A program says first what is wrong, and last where it ended: what is in between goes. */
static void keep_character(struct run *run, char c)
{
	size_t length = strlen(run->output), tail = HEAD + strlen(GAP);

	if (length + 1 == sizeof(run->output)) {
		memcpy(run->output + HEAD, GAP, strlen(GAP));
		memmove(run->output + tail, run->output + tail + 1, length - tail);
		length--;
	}
	run->output[length] = c;
	run->output[length + 1] = '\0';
}

/* Blanks and line breaks become one blank each. */
static void keep_output(struct run *run, const char *bytes, size_t length)
{
	size_t have = strlen(run->output);
	bool after_blank = have == 0 || run->output[have - 1] == ' ';

	for (size_t i = 0; i < length; i++) {
		bool blank = !isgraph((unsigned char)bytes[i]);

		if (!blank || !after_blank)
			keep_character(run, blank ? ' ' : bytes[i]);
		after_blank = blank;
	}
}

static void trim_end(char *text)
{
	size_t length = strlen(text);

	while (length && text[length - 1] == ' ')
		text[--length] = '\0';
}

static int spawn(const char *const argv[], int output, int keep_fd, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, 1);
	posix_spawn_file_actions_adddup2(&actions, output, 2);
	if (keep_fd >= 0) /* onto itself: clears close-on-exec */
		posix_spawn_file_actions_adddup2(&actions, keep_fd, keep_fd);
	r = posix_spawnp(ret, argv[0], &actions, &attributes, (char **)argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

enum output { OUTPUT_NONE, OUTPUT_SOME, OUTPUT_END };

/* Takes what the child says within @wait_ms. OUTPUT_END: all writers are gone. */
static enum output read_output(int fd, struct run *run, int wait_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char buffer[512];
	ssize_t n;

	if (poll(&poll_fd, 1, wait_ms) <= 0)
		return OUTPUT_NONE;
	n = read(fd, buffer, sizeof(buffer));
	if (n <= 0)
		return OUTPUT_END;
	keep_output(run, buffer, (size_t)n);
	return OUTPUT_SOME;
}

static int status_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Waits until the child has ended, reading its output meanwhile. */
static int wait_until(pid_t pid, int fd, struct timespec deadline, struct run *run)
{
	enum output output = OUTPUT_NONE;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (deadline_passed(&deadline))
			return -ETIMEDOUT;
		if (output == OUTPUT_END)
			poll(NULL, 0, POLL_MS);
		else
			output = read_output(fd, run, POLL_MS);
	}
	while (output != OUTPUT_END && read_output(fd, run, 0) == OUTPUT_SOME)
		;
	trim_end(run->output);
	run->status = status_of(status);
	return 0;
}

/* A child in an uninterruptible call outlives even SIGKILL: it is left, and keeps its lock. */
static void stop_child(pid_t pid, int fd)
{
	struct run ignored = { 0 };

	kill(-pid, SIGTERM);
	if (wait_until(pid, fd, deadline_in_ms(TERMINATION_MS), &ignored) == 0)
		return;
	kill(-pid, SIGKILL);
	(void)wait_until(pid, fd, deadline_in_ms(TERMINATION_MS), &ignored);
}

int run_program(const char *const argv[], struct timespec deadline, int keep_fd, struct run *ret,
		struct error *err)
{
	cleanup_close int reading = -1, writing = -1;
	struct run run = { 0 };
	int ends[2], r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", errno_text(errno));
	reading = ends[0];
	writing = ends[1];
	r = spawn(argv, writing, keep_fd, &pid);
	if (r < 0)
		return error_set(err, r, "cannot run %s: %s", argv[0], errno_text(r));
	close(take_fd(&writing));
	r = wait_until(pid, reading, deadline, &run);
	if (r < 0) {
		stop_child(pid, reading);
		return error_set(err, r, "%s took too long and was stopped", argv[0]);
	}
	*ret = run;
	return 0;
}
