#include "daemon/quiesce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/command.h"
#include "common/deadline.h"
#include "common/log.h"

/* A snapshot's taker asks again every 5 s, ten times as a rule: it must have its answer by then. */
#define HOOK_SECONDS 40

#define SNAPSHOT_SECONDS 5 /* for one that is being taken when the I/O is to be held */
#define PAUSE_MS	 5

/* Strings are its own. */
struct quiesce {
	char *hook, *target;
};

static void quiesce_free(void *data)
{
	struct quiesce *quiesce = data;

	free(quiesce->hook);
	free(quiesce->target);
	free(quiesce);
}

static struct quiesce *quiesce_new(const char *hook, const char *target)
{
	struct quiesce *quiesce = calloc(1, sizeof(*quiesce));

	if (!quiesce)
		return NULL;
	quiesce->hook = strdup(hook);
	quiesce->target = strdup(target);
	if (quiesce->hook && quiesce->target)
		return quiesce;
	quiesce_free(quiesce);
	return NULL;
}

static void complain(const char *hook, const char *target, const char *what, int code)
{
	if (code == -ETIMEDOUT)
		log_warning("%s: %s %s did not end within %d s and was killed", target, hook, what,
			    HOOK_SECONDS);
	else if (code == -EIO)
		log_warning("%s: %s %s failed", target, hook, what);
	else
		log_warning("%s: %s %s cannot be run: %s", target, hook, what, errno_text(code));
}

void quiesce_release(const char *hook, const char *target)
{
	const char *const argv[] = { hook, target, "unquiesce", NULL };
	int r = hook ? command_run(argv, HOOK_SECONDS) : 0;

	if (r < 0)
		complain(hook, target, "unquiesce", r);
}

static int hold(const char *hook, const char *target)
{
	const char *const argv[] = { hook, target, "quiesce", NULL };
	const char *const undo[] = { hook, target, "unquiesce", NULL };
	int r = command_run_or_undo(argv, undo, HOOK_SECONDS);

	if (r < 0) {
		complain(hook, target, "quiesce", r);
		log_warning("%s: the snapshot is refused", target);
		return -EIO; /* librbd tries again by itself what has timed out */
	}
	log_info("%s is quiesced for a snapshot", target);
	return 0;
}

static int quiesce_run(void *data, bool begin)
{
	const struct quiesce *quiesce = data;

	if (begin)
		return hold(quiesce->hook, quiesce->target);
	quiesce_release(quiesce->hook, quiesce->target);
	return 0;
}

/* False when @deadline comes first, or the call is cancelled. */
static bool await_snapshots(struct image *image, enum image_snapshots to,
			    const struct timespec *deadline, const atomic_uint *cancel)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000 * 1000 };

	while (!image_set_snapshots(image, to)) {
		if (deadline_passed(deadline) || atomic_load(cancel) > 0)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

int quiesce_end(struct image *image, const char *target, const struct timespec *deadline,
		const atomic_uint *cancel, struct error *err)
{
	struct timespec patience = deadline_in(MIN(SNAPSHOT_SECONDS, deadline_left(deadline)));

	if (await_snapshots(image, IMAGE_SNAPSHOTS_REFUSED, &patience, cancel) ||
	    await_snapshots(image, IMAGE_SNAPSHOTS_ENDED, deadline, cancel))
		return 0;
	return error_set(err, -ETIMEDOUT,
			 "A snapshot is being taken of %s, and its hook has not ended in time.",
			 target);
}

void quiesce_go_on(struct image *image)
{
	image_set_snapshots(image, IMAGE_SNAPSHOTS_SERVED);
}

int quiesce_watch(struct image *image, const char *hook, const char *target, struct error *err)
{
	struct image_quiesce todo = { .run = quiesce_run, .free = quiesce_free };
	int r = -ENOMEM;

	if (!hook)
		return 0;
	todo.data = quiesce_new(hook, target);
	if (todo.data)
		r = image_watch_snapshots(image, &todo);
	if (r == 0)
		return 0;
	if (todo.data)
		quiesce_free(todo.data);
	return error_set(err, r, "Cannot watch for snapshots: %s.", errno_text(r));
}
