#include "image/fence.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bounded.h"
#include "common/cleanup.h"
#include "common/deadline.h"
#include "image/client-rados.h"
#include "image/rbd-watchers.h"

#define OWNERS_MAX 8
#define LOOK_MS	   250

/* librbd's exclusive lock is one of this name on the image's header object (RBD_HEADER_PREFIX and
 * RBD_LOCK_NAME in Ceph's rbd_types.h). */
#define HEADER_PREFIX "rbd_header."
#define LOCK_NAME     "rbd_lock"
#define ID_MAX	      128
#define LOCKERS_MAX   1024

/* "v1:192.0.2.1:0/7" is written with and without its type, alone or in a list in brackets. */
static const char *without_type(const char *address)
{
	if (address[0] == 'v' && isdigit((unsigned char)address[1]) && address[2] == ':')
		return address + 3;
	return strncmp(address, "any:", 4) == 0 ? address + 4 : address;
}

/* Whether @one is among @addresses. */
static bool names(const char *addresses, const char *one)
{
	const char *bare = without_type(one), *found = addresses;

	if (!*bare)
		return false;
	while ((found = strstr(found, bare))) {
		bool begins = found == addresses || !isdigit((unsigned char)found[-1]);

		if (begins && !isdigit((unsigned char)found[strlen(bare)]))
			return true;
		found++;
	}
	return false;
}

struct fence_job {
	struct bounded bounded;
	struct rbd_client *client; /* a reference */
	char *addresses;	   /* cut up as it goes */
	char *name;
	int result;
};

static void run_fence(struct bounded *bounded)
{
	struct fence_job *job = container_of(bounded, struct fence_job, bounded);
	rados_t cluster = rbd_client_cluster(job->client);
	char *rest = job->addresses, *address;

	while (job->result == 0 && (address = strsep(&rest, " ")))
		job->result = rados_blocklist_add(cluster, address, 0);
	if (job->result == 0)
		job->result = rados_wait_for_latest_osdmap(cluster);
}

static void free_job(struct fence_job *job)
{
	rbd_client_unref(job->client);
	free(job->addresses);
	free(job->name);
	free(job);
}

static void abandon_fence(struct bounded *bounded)
{
	free_job(container_of(bounded, struct fence_job, bounded));
}

static struct fence_job *make_job(struct rbd_client *client, const char *addresses,
				  const char *identity)
{
	struct fence_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->bounded.run = run_fence;
	job->bounded.abandoned = abandon_fence;
	job->client = rbd_client_ref(client);
	job->addresses = strdup(addresses);
	if (asprintf(&job->name, "fence for %s", identity) < 0)
		job->name = NULL;
	job->bounded.name = job->name;
	if (job->addresses && job->name)
		return job;
	free_job(job);
	return NULL;
}

static int explain(const char *address, unsigned timeout, int code, struct error *err)
{
	if (code == -EPERM || code == -EACCES)
		return error_set(err, -EPERM, "This user's caps do not allow to blocklist %s.",
				 address);
	if (code == -EALREADY)
		return error_set(err, -ETIMEDOUT,
				 "Blocklisting %s was not begun: an earlier try for this image has "
				 "not ended within %u seconds ('ceph health' may say why).",
				 address, timeout);
	if (code == -ETIMEDOUT)
		return error_set(err, code, "Blocklisting %s took more than %u seconds.", address,
				 timeout);
	return error_set(err, code, "Cannot blocklist %s: %s.", address, errno_text(code));
}

int fence_client(struct rbd_client *client, const char *addresses, const char *identity,
		 unsigned timeout, struct error *err)
{
	struct fence_job *job = make_job(client, addresses, identity);
	int r;

	if (!job)
		return error_set(err, -ENOMEM, "Out of memory.");
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT || r == -EALREADY)
		return explain(addresses, timeout, r, err);
	if (r == 0)
		r = job->result;
	free_job(job);
	return r < 0 ? explain(addresses, timeout, r, err) : 0;
}

/* The next of the strings in a list, each with its end; NULL when it has none. */
static const char *next_of(const char *list, size_t size, const char *last)
{
	const char *next = last ? last + strlen(last) + 1 : list;

	return next < list + size && *next ? next : NULL;
}

/*
 * librbd would blocklist the holder once more before it breaks its lock, which not every user's
 * caps allow; this one is kept away already.
 */
void fence_break_lock(rados_ioctx_t ioctx, rbd_image_t image, const char *addresses)
{
	char id[ID_MAX], header[ID_MAX + 16], tag[64];
	char clients[LOCKERS_MAX], cookies[LOCKERS_MAX], addrs[LOCKERS_MAX];
	size_t tag_size = sizeof(tag), clients_size = sizeof(clients);
	size_t cookies_size = sizeof(cookies), addrs_size = sizeof(addrs);
	const char *client = NULL, *cookie = NULL, *address = NULL;
	int exclusive;

	if (rbd_get_id(image, id, sizeof(id)) < 0)
		return; /* of the old format, without a lock */
	snprintf(header, sizeof(header), HEADER_PREFIX "%s", id);
	if (rados_list_lockers(ioctx, header, LOCK_NAME, &exclusive, tag, &tag_size, clients,
			       &clients_size, cookies, &cookies_size, addrs, &addrs_size) <= 0)
		return;
	while ((client = next_of(clients, clients_size, client)) &&
	       (cookie = next_of(cookies, cookies_size, cookie)) &&
	       (address = next_of(addrs, addrs_size, address)))
		if (names(addresses, address))
			rados_break_lock(ioctx, header, LOCK_NAME, client, cookie);
}

int fence_owner(rbd_image_t image, const char *addresses, char *owner, size_t size)
{
	char *owners[OWNERS_MAX];
	size_t count = OWNERS_MAX;
	rbd_lock_mode_t mode;
	int result = FENCE_NOBODY, r = rbd_lock_get_owners(image, &mode, owners, &count);

	if (r == -ENOENT)
		return FENCE_NOBODY;
	if (r == -EBUSY)
		return FENCE_BY_HAND;
	if (r < 0)
		return r;
	for (size_t i = 0; i < count && result != FENCE_OTHER; i++) {
		result = names(addresses, owners[i]) ? FENCE_FORMER : FENCE_OTHER;
		snprintf(owner, size, "%s", owners[i]);
	}
	rbd_lock_get_owners_cleanup(owners, count);
	return result;
}

static int is_watched(rbd_image_t image, const char *addresses)
{
	struct watchers watchers;
	bool found = false;
	int r = watchers_list(image, &watchers);

	if (r < 0)
		return r;
	for (size_t i = 0; i < watchers.count; i++)
		found = found || names(addresses, watchers.list[i].addr);
	watchers_free(&watchers);
	return found;
}

int fence_await_unwatched(rbd_image_t image, const char *addresses, const struct timespec *deadline)
{
	int r;

	while ((r = is_watched(image, addresses)) > 0 && !deadline_passed(deadline))
		pause_ms(LOOK_MS);
	return r;
}
