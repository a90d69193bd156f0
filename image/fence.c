#include "image/fence.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "image/bounded.h"
#include "image/client-rados.h"

#define WATCHERS_MAX 64
#define OWNERS_MAX   8
#define LOOK_MS	     250

/* "v1:192.0.2.1:0/7" is written with and without its type, alone or in a list in brackets. */
static const char *without_type(const char *address)
{
	if (address[0] == 'v' && isdigit((unsigned char)address[1]) && address[2] == ':')
		return address + 3;
	return strncmp(address, "any:", 4) == 0 ? address + 4 : address;
}

static bool names(const char *address, const char *one)
{
	const char *bare = without_type(one), *found = strstr(address, bare);

	return *bare && found && !isdigit((unsigned char)found[strlen(bare)]) &&
	       (found == address || !isdigit((unsigned char)found[-1]));
}

struct fence_job {
	struct bounded bounded;
	struct rbd_client *client; /* a reference */
	char *address;
	int result;
};

static void run_fence(struct bounded *bounded)
{
	struct fence_job *job = container_of(bounded, struct fence_job, bounded);
	rados_t cluster = rbd_client_cluster(job->client);

	job->result = rados_blocklist_add(cluster, job->address, 0);
	if (job->result == 0)
		job->result = rados_wait_for_latest_osdmap(cluster);
}

static void free_job(struct fence_job *job)
{
	rbd_client_unref(job->client);
	free(job->address);
	free(job);
}

static void abandon_fence(struct bounded *bounded)
{
	free_job(container_of(bounded, struct fence_job, bounded));
}

static struct fence_job *make_job(struct rbd_client *client, const char *address)
{
	struct fence_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->bounded.run = run_fence;
	job->bounded.abandoned = abandon_fence;
	job->client = rbd_client_ref(client);
	job->address = strdup(address);
	if (job->address)
		return job;
	free_job(job);
	return NULL;
}

static int explain(const char *address, unsigned timeout, int code, struct error *err)
{
	if (code == -EPERM || code == -EACCES)
		return error_set(err, -EPERM, "This user's caps do not allow to blocklist %s.",
				 address);
	if (code == -ETIMEDOUT)
		return error_set(err, code, "Blocklisting %s took more than %u seconds.", address,
				 timeout);
	return error_set(err, code, "Cannot blocklist %s: %s.", address, errno_text(code));
}

int fence_client(struct rbd_client *client, const char *address, unsigned timeout,
		 struct error *err)
{
	struct fence_job *job = make_job(client, address);
	int r;

	if (!job)
		return error_set(err, -ENOMEM, "Out of memory.");
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT)
		return explain(address, timeout, r, err);
	if (r == 0)
		r = job->result;
	free_job(job);
	return r < 0 ? explain(address, timeout, r, err) : 0;
}

/* What librbd does not break here it breaks itself when the lock is needed, only later. */
void fence_break_lock(rbd_image_t image, const char *address)
{
	char *owners[OWNERS_MAX];
	size_t count = OWNERS_MAX;
	rbd_lock_mode_t mode;

	if (rbd_lock_get_owners(image, &mode, owners, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (names(address, owners[i]))
			rbd_lock_break(image, mode, owners[i]);
	rbd_lock_get_owners_cleanup(owners, count);
}

bool fence_has_other_owner(rbd_image_t image, const char *address, char *owner, size_t size)
{
	char *owners[OWNERS_MAX];
	size_t count = OWNERS_MAX;
	rbd_lock_mode_t mode;
	bool found = false;

	if (rbd_lock_get_owners(image, &mode, owners, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (names(address, owners[i]))
			continue;
		found = true;
		snprintf(owner, size, "%s", owners[i]);
	}
	rbd_lock_get_owners_cleanup(owners, count);
	return found;
}

static int is_watched(rbd_image_t image, const char *address)
{
	rbd_image_watcher_t watchers[WATCHERS_MAX];
	size_t count = WATCHERS_MAX;
	bool found = false;
	int r = rbd_watchers_list(image, watchers, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		found = found || names(address, watchers[i].addr);
	rbd_watchers_list_cleanup(watchers, count);
	return found;
}

int fence_await_unwatched(rbd_image_t image, const char *address)
{
	const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000l };
	int r;

	while ((r = is_watched(image, address)) > 0)
		nanosleep(&pause, NULL);
	return r;
}
