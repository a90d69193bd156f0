#include "common/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/thread.h"

static const char *const directories[] = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" };

#define GROUP_PAUSE 1 /* seconds between two looks for what is left of a group */

/* The first of the program's name in one of the directories, as posix_spawn() returns: an errno. */
static int spawn_found(const char *const argv[], const posix_spawn_file_actions_t *files,
		       const posix_spawnattr_t *attr, pid_t *ret)
{
	static char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
					     NULL };
	int r = ENOENT;

	if (strchr(argv[0], '/'))
		return posix_spawn(ret, argv[0], files, attr, (char *const *)argv, environment);
	for (size_t i = 0; i < ARRAY_SIZE(directories) && r == ENOENT; i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", directories[i], argv[0]);
		r = posix_spawn(ret, path, files, attr, (char *const *)argv, environment);
	}
	return r;
}

static int spawn(const char *const argv[], pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, ignored;
	int r;

	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ignored);
	posix_spawnattr_setpgroup(&attr, 0); /* its own, which can be killed as a whole */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETPGROUP);
	posix_spawn_file_actions_init(&files);
	for (int fd = 0; fd <= 2; fd++)
		posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
	r = spawn_found(argv, &files, &attr, ret);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -r;
}

static int await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

/* What was killed, and what is to be run once it has ended; its strings are its own. */
struct late {
	pid_t pid;
	unsigned seconds;
	size_t nr_undo;
	char *undo[];
};

static void late_free(struct late *late)
{
	for (size_t i = 0; late && i < late->nr_undo; i++)
		free(late->undo[i]);
	free(late);
}

static struct late *late_new(pid_t pid, const char *const undo[], unsigned seconds)
{
	struct late *late;
	size_t count = 0;

	while (undo && undo[count])
		count++;
	late = calloc(1, sizeof(*late) + (count + 1) * sizeof(late->undo[0]));
	if (!late)
		return NULL;
	late->pid = pid;
	late->seconds = seconds;
	for (; late->nr_undo < count; late->nr_undo++)
		if (!(late->undo[late->nr_undo] = strdup(undo[late->nr_undo]))) {
			late_free(late);
			return NULL;
		}
	return late;
}

/* The leader's children are not ours to wait for. */
static void await_group(pid_t leader)
{
	(void)!await(leader);
	while (kill(-leader, 0) == 0)
		sleep(GROUP_PAUSE);
}

static void *late_main(void *data)
{
	struct late *late = data;

	await_group(late->pid);
	if (late->nr_undo > 0)
		(void)!command_run((const char *const *)late->undo, late->seconds);
	late_free(late);
	return NULL;
}

/* It may have to wait in the kernel before it can end; nobody else waits with it. */
static void end_late(pid_t pid, const char *const undo[], unsigned seconds)
{
	struct late *late = late_new(pid, undo, seconds);

	kill(-pid, SIGKILL);
	if (!late || thread_detached(late_main, late) < 0)
		late_free(late);
}

static int run(const char *const argv[], const char *const undo[], unsigned seconds)
{
	cleanup_close int fd = -1;
	struct pollfd ended;
	pid_t pid;
	int r = spawn(argv, &pid);

	if (r < 0)
		return r;
	fd = pidfd_open(pid, 0);
	if (fd < 0) /* Linux before 5.3, which has no frontend of ours either */
		return await(pid);
	ended = (struct pollfd){ .fd = fd, .events = POLLIN };
	do
		r = poll(&ended, 1, (int)seconds * 1000);
	while (r < 0 && errno == EINTR);
	if (r > 0)
		return await(pid);
	end_late(pid, undo, seconds);
	return -ETIMEDOUT;
}

int command_run(const char *const argv[], unsigned seconds)
{
	int r = run(argv, NULL, seconds);

	return r > 0 ? -EIO : r;
}

int command_status(const char *const argv[], unsigned seconds)
{
	return run(argv, NULL, seconds);
}

int command_run_or_undo(const char *const argv[], const char *const undo[], unsigned seconds)
{
	int r = run(argv, undo, seconds);

	if (r != 0)
		(void)!run(undo, NULL, seconds);
	return r > 0 ? -EIO : r;
}
