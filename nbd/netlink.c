#include "nbd/netlink.h"

#include <errno.h>
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/family.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include "common/cleanup.h"

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

int nbd_netlink_probe(struct error *err)
{
	cleanup_socket struct nl_sock *sock = NULL;
	int family;

	return open_family(&sock, &family, err);
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

int nbd_netlink_has_identifiers(struct error *err)
{
	cleanup_socket struct nl_sock *sock = NULL;
	int family, r;

	r = open_family(&sock, &family, err);
	if (r < 0)
		return r;
	r = largest_attribute(sock);
	if (r < 0)
		return error_set(err, r, "the kernel's nbd driver cannot be asked what it offers");
	return r >= NBD_ATTR_BACKEND_IDENTIFIER;
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

static int command(int number, const struct nbd_netlink_device *device, const char *what,
		   struct error *err)
{
	cleanup_message struct nl_msg *message = nlmsg_alloc();
	cleanup_socket struct nl_sock *sock = NULL;
	int family, r;

	if (!message)
		return error_set(err, -ENOMEM, "out of memory");
	r = open_family(&sock, &family, err);
	if (r < 0)
		return r;
	r = fill(message, family, number, device);
	if (r == 0)
		r = nl_send_sync(sock, take_ptr(message));
	if (r < 0)
		return error_set(err, errno_of(r), "cannot %s /dev/nbd%d: %s", what, device->number,
				 nl_geterror(r));
	return 0;
}

int nbd_netlink_connect(const struct nbd_netlink_device *device, struct error *err)
{
	return command(NBD_CMD_CONNECT, device, "connect", err);
}

int nbd_netlink_disconnect(int number, struct error *err)
{
	const struct nbd_netlink_device device = { .number = number };

	return command(NBD_CMD_DISCONNECT, &device, "disconnect", err);
}

int nbd_netlink_reconfigure(const struct nbd_netlink_device *device, struct error *err)
{
	return command(NBD_CMD_RECONFIGURE, device, "reconfigure", err);
}
