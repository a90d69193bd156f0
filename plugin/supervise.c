#include "plugin/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/parse.h"
#include "plugin/run.h"

#define POLL_MS	      10
#define ANSWER_MS     1500 /* kept back for the answer, of the whole time */
#define STEP_TEXT_MAX 256

/* Shared with the child. The parent reads error and note once done is set. */
struct shared {
	atomic_bool done;
	struct error error, note;
	char step[STEP_TEXT_MAX]; /* read while it may change: text for people, always ended */
};

int supervise_settings_read(struct supervise_settings *ret, struct error *err)
{
	const char *directory = getenv("URBD_PLUGIN_DIR"), *seconds = getenv("URBD_PLUGIN_TIMEOUT");

	ret->seconds = SUPERVISE_SECONDS_DEFAULT;
	if (seconds && *seconds &&
	    parse_unsigned(seconds, SUPERVISE_SECONDS_MIN, SUPERVISE_SECONDS_MAX, &ret->seconds) <
		    0)
		return error_set(err, -EINVAL,
				 "URBD_PLUGIN_TIMEOUT is no number of seconds between %d and %d",
				 SUPERVISE_SECONDS_MIN, SUPERVISE_SECONDS_MAX);
	if (!directory || !*directory)
		directory = VOLUME_DIRECTORY_DEFAULT;
	if (directory[0] != '/')
		return error_set(err, -EINVAL, "URBD_PLUGIN_DIR is no absolute path");
	ret->directory = strdup(directory);
	return ret->directory ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static void tell(const char *step, void *data)
{
	struct shared *shared = data;

	strncpy(shared->step, step, STEP_TEXT_MAX - 1);
}

/* Whoever reads our output to its end must not wait for this process. */
static void leave_standard_files(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
}

static void work_in_child(const struct supervise_settings *settings, supervise_work_fn work,
			  void *data, struct shared *shared)
{
	int64_t total_ms = (int64_t)settings->seconds * 1000 - ANSWER_MS;
	struct volume_call call = {
		.directory = settings->directory,
		.deadline = deadline_in_ms(total_ms * 2 / 3),
		.undo = deadline_in_ms(total_ms),
		.tell = tell,
		.tell_data = shared,
		.lock_fd = -1,
	};
	int r;

	setsid();
	umask(0022);
	leave_standard_files();
	run_complete_path();
	r = work(&call, data, &shared->error);
	if (r == 0)
		shared->error = ERROR_NONE;
	shared->note = call.note;
	atomic_store(&shared->done, true);
	_exit(0);
}

static int wait_for_child(pid_t pid, unsigned seconds, struct shared *shared, struct error *err)
{
	struct timespec deadline = deadline_in_ms((int64_t)seconds * 1000 - ANSWER_MS / 3);
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (deadline_passed(&deadline))
			return error_set(
				err, -ETIMEDOUT,
				"no end after %u s, at this step: %s. It goes on by itself as "
				"soon as it can; look at urbdd and the cluster",
				seconds, shared->step);
		poll(NULL, 0, POLL_MS);
	}
	if (!atomic_load(&shared->done))
		return error_set(err, -ECHILD, "the work was killed at this step: %s; try again",
				 shared->step);
	*err = shared->error;
	return err->code;
}

int supervise(const struct supervise_settings *settings, supervise_work_fn work, void *data,
	      struct error *note, struct error *err)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int r;

	if (shared == MAP_FAILED)
		return error_set(err, -ENOMEM, "out of memory");
	strcpy(shared->step, "starting");
	signal(SIGPIPE, SIG_IGN);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		work_in_child(settings, work, data, shared);
	r = pid < 0 ? error_set(err, -errno, "cannot start a process: %s", errno_text(errno))
		    : wait_for_child(pid, settings->seconds, shared, err);
	*note = shared->note;
	if (r != -ETIMEDOUT)
		munmap(shared, sizeof(*shared));
	return r;
}
