#include "nbd/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/family.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bounded.h"
#include "common/cleanup.h"
#include "common/macros.h"

#define QUESTION_SECONDS 5

/*
 * What the kernel is asked, on a thread that it may keep. Owns all that it takes, sockets too: the
 * kernel may come to them when who asked has left, and closed its own.
 */
struct job {
	struct bounded bounded;
	int (*ask)(struct job *job); /* 0 or more, or a negative errno with a sentence */
	int command;
	const char *what; /* the command, for sentences */
	struct nbd_netlink_device device;
	char *identifier;
	int *sockets;
	unsigned nr_sockets;
	int result;
	struct error error;
};

/* libnl's own error numbers, as far as they can come up here. */
static int errno_of(int nl_error)
{
	switch (-nl_error) {
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_BUSY:
		return -EBUSY;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_OBJ_NOTFOUND:
		return -ENOENT;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	case NLE_AGAIN:
		return -ETIMEDOUT;
	case NLE_INVAL:
	case NLE_RANGE:
		return -EINVAL;
	default:
		return -EIO;
	}
}

static void socket_free(struct nl_sock **sock)
{
	nl_socket_free(*sock);
}

static void message_free(struct nl_msg **message)
{
	nlmsg_free(*message);
}

#define cleanup_socket	cleanup(socket_free)
#define cleanup_message cleanup(message_free)

/* A socket to generic netlink, and the number that the driver's family has there. */
static int open_family(struct nl_sock **ret, int *ret_family, struct error *err)
{
	cleanup_socket struct nl_sock *sock = nl_socket_alloc();
	int family, r;

	if (!sock)
		return error_set(err, -ENOMEM, "out of memory");
	r = genl_connect(sock);
	if (r < 0)
		return error_set(err, errno_of(r), "cannot open a netlink socket: %s",
				 nl_geterror(r));
	family = genl_ctrl_resolve(sock, NBD_GENL_FAMILY_NAME);
	if (family < 0)
		return error_set(err, -EOPNOTSUPP, "the kernel's nbd driver is not there");
	*ret = take_ptr(sock);
	*ret_family = family;
	return 0;
}

/* The attributes of the driver's messages are numbered: one that it does not know is beyond. */
static int largest_attribute(struct nl_sock *sock)
{
	struct genl_family *family;
	struct nl_cache *cache;
	int largest;

	if (genl_ctrl_alloc_cache(sock, &cache) < 0)
		return -ENOMEM;
	family = genl_ctrl_search_by_name(cache, NBD_GENL_FAMILY_NAME);
	largest = family ? (int)genl_family_get_maxattr(family) : -EOPNOTSUPP;
	genl_family_put(family);
	nl_cache_free(cache);
	return largest;
}

static int put_sockets(struct nl_msg *message, const struct nbd_netlink_device *device)
{
	struct nlattr *sockets = nla_nest_start(message, NBD_ATTR_SOCKETS);

	if (!sockets)
		return -NLE_NOMEM;
	for (unsigned i = 0; i < device->nr_sockets; i++) {
		struct nlattr *item = nla_nest_start(message, NBD_SOCK_ITEM);

		if (!item || nla_put_u32(message, NBD_SOCK_FD, device->sockets[i]) < 0)
			return -NLE_NOMEM;
		nla_nest_end(message, item);
	}
	nla_nest_end(message, sockets);
	return 0;
}

static int put_size(struct nl_msg *message, const struct nbd_netlink_device *device)
{
	if (device->size == 0)
		return 0;
	return nla_put_u64(message, NBD_ATTR_SIZE_BYTES, device->size)
		       ?: nla_put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, device->block_size);
}

/* What CONNECT alone takes. The client flags stay 0: the device outlives its openers. */
static int put_settings(struct nl_msg *message, const struct nbd_netlink_device *device)
{
	return nla_put_u64(message, NBD_ATTR_SERVER_FLAGS, device->server_flags) ?:
	       nla_put_u64(message, NBD_ATTR_CLIENT_FLAGS, 0) ?:
	       nla_put_u64(message, NBD_ATTR_TIMEOUT, device->timeout) ?:
	       nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT, device->dead_timeout);
}

static int fill(struct nl_msg *message, int family, int command,
		const struct nbd_netlink_device *device)
{
	int r;

	if (!genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, command,
			 NBD_GENL_VERSION))
		return -NLE_NOMEM;
	r = nla_put_u32(message, NBD_ATTR_INDEX, device->number);
	if (command == NBD_CMD_DISCONNECT)
		return r;
	r = r ?: put_size(message, device);
	if (command == NBD_CMD_CONNECT)
		r = r ?: put_settings(message, device);
	if (device->identifier)
		r = r ?: nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, device->identifier);
	if (device->nr_sockets > 0)
		r = r ?: put_sockets(message, device);
	return r;
}

/* What a job asks. */

static int probe(struct job *job)
{
	cleanup_socket struct nl_sock *sock = NULL;
	int family;

	return open_family(&sock, &family, &job->error);
}

static int has_identifiers(struct job *job)
{
	cleanup_socket struct nl_sock *sock = NULL;
	int family, r;

	r = open_family(&sock, &family, &job->error);
	if (r < 0)
		return r;
	r = largest_attribute(sock);
	if (r < 0)
		return error_set(&job->error, r,
				 "the kernel's nbd driver cannot be asked what it offers");
	return r >= NBD_ATTR_BACKEND_IDENTIFIER;
}

static int command(struct job *job)
{
	cleanup_message struct nl_msg *message = nlmsg_alloc();
	cleanup_socket struct nl_sock *sock = NULL;
	int family, r;

	if (!message)
		return error_set(&job->error, -ENOMEM, "out of memory");
	r = open_family(&sock, &family, &job->error);
	if (r < 0)
		return r;
	r = fill(message, family, job->command, &job->device);
	if (r == 0)
		r = nl_send_sync(sock, take_ptr(message));
	if (r < 0)
		return error_set(&job->error, errno_of(r), "cannot %s /dev/nbd%d: %s", job->what,
				 job->device.number, nl_geterror(r));
	return 0;
}

/* Jobs. */

static void run(struct bounded *bounded)
{
	struct job *job = container_of(bounded, struct job, bounded);

	job->result = job->ask(job);
}

static void free_job(struct job *job)
{
	for (unsigned i = 0; i < job->nr_sockets; i++)
		close(job->sockets[i]);
	free(job->sockets);
	free(job->identifier);
	free(job);
}

static void abandon(struct bounded *bounded)
{
	free_job(container_of(bounded, struct job, bounded));
}

static int copy_sockets(struct job *job, const struct nbd_netlink_device *device)
{
	job->sockets = calloc(device->nr_sockets + 1, sizeof(*job->sockets));
	if (!job->sockets)
		return -ENOMEM;
	for (; job->nr_sockets < device->nr_sockets; job->nr_sockets++) {
		int fd = fcntl(device->sockets[job->nr_sockets], F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		job->sockets[job->nr_sockets] = fd;
	}
	return 0;
}

static int copy_device(struct job *job, const struct nbd_netlink_device *device)
{
	job->device = *device;
	if (device->identifier) {
		job->device.identifier = job->identifier = strdup(device->identifier);
		if (!job->identifier)
			return -ENOMEM;
	}
	job->device.sockets = job->sockets;
	return 0;
}

static int make_job(int (*ask)(struct job *job), const struct nbd_netlink_device *device,
		    struct job **ret)
{
	struct job *job = calloc(1, sizeof(*job));
	int r;

	if (!job)
		return -ENOMEM;
	job->bounded.run = run;
	job->bounded.abandoned = abandon;
	job->ask = ask;
	r = device ? copy_sockets(job, device) : 0;
	if (r == 0 && device)
		r = copy_device(job, device);
	if (r < 0) {
		free_job(job);
		return r;
	}
	*ret = job;
	return 0;
}

static int finish(struct job *job, unsigned seconds, struct error *err)
{
	int r = bounded_run(&job->bounded, seconds);

	if (r == -ETIMEDOUT)
		return error_set(err, r,
				 "the kernel's nbd driver did not answer within %u s: look for a "
				 "hung task in the kernel's log",
				 seconds);
	if (r < 0) {
		error_set(err, r, "cannot start a thread: %s", errno_text(r));
	} else {
		r = job->result;
		*err = job->error;
	}
	free_job(job);
	return r;
}

static int ask(int (*what)(struct job *job), struct error *err)
{
	struct job *job;
	int r = make_job(what, NULL, &job);

	if (r < 0)
		return error_set(err, r, "out of memory");
	return finish(job, QUESTION_SECONDS, err);
}

int nbd_netlink_probe(struct error *err)
{
	return ask(probe, err);
}

int nbd_netlink_has_identifiers(struct error *err)
{
	return ask(has_identifiers, err);
}

static int carry_out(int number, const char *what, const struct nbd_netlink_device *device,
		     unsigned seconds, struct error *err)
{
	struct job *job;
	int r = make_job(command, device, &job);

	if (r < 0)
		return error_set(err, r, "cannot %s /dev/nbd%d: %s", what, device->number,
				 errno_text(r));
	job->command = number;
	job->what = what;
	return finish(job, seconds, err);
}

int nbd_netlink_connect(const struct nbd_netlink_device *device, unsigned seconds,
			struct error *err)
{
	return carry_out(NBD_CMD_CONNECT, "connect", device, seconds, err);
}

int nbd_netlink_disconnect(int number, unsigned seconds, struct error *err)
{
	const struct nbd_netlink_device device = { .number = number };

	return carry_out(NBD_CMD_DISCONNECT, "disconnect", &device, seconds, err);
}

int nbd_netlink_reconfigure(const struct nbd_netlink_device *device, unsigned seconds,
			    struct error *err)
{
	return carry_out(NBD_CMD_RECONFIGURE, "reconfigure", device, seconds, err);
}
