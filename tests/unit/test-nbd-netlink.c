/*
 * Commands to the kernel's NBD driver when it does not answer. libnl's calls are those below, in
 * the place of the real ones.
 */
#include <errno.h>
#include <linux/nbd-netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nbd/netlink.h"
#include "tests/unit/cmocka-all.h"

/* ---- a kernel that hangs until it is let go */

static bool hangs;
static sem_t let_go, done;
static ino_t seen; /* the socket that it was given */

int genl_connect(struct nl_sock *sock)
{
	return 0;
}

int genl_ctrl_resolve(struct nl_sock *sock, const char *name)
{
	return 42;
}

static ino_t inode_of(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) < 0 ? 0 : stat.st_ino;
}

/* The number of a socket means something only while the one who sent it has it open. */
static ino_t first_socket(struct nl_msg *message)
{
	struct nlattr *attributes[NBD_ATTR_MAX + 1], *socket[NBD_SOCK_MAX + 1];

	if (genlmsg_parse(nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, NULL) < 0 ||
	    !attributes[NBD_ATTR_SOCKETS] ||
	    nla_parse_nested(socket, NBD_SOCK_MAX, nla_data(attributes[NBD_ATTR_SOCKETS]), NULL) <
		    0)
		return 0;
	return inode_of((int)nla_get_u32(socket[NBD_SOCK_FD]));
}

int nl_send_sync(struct nl_sock *sock, struct nl_msg *message)
{
	if (hangs)
		while (sem_wait(&let_go) < 0)
			;
	seen = first_socket(message);
	nlmsg_free(message);
	sem_post(&done);
	return 0;
}

/* ---- the tests */

static int make(void **state)
{
	sem_init(&let_go, 0, 0);
	sem_init(&done, 0, 0);
	seen = 0;
	return 0;
}

static void what_is_answered_is_done(void **state)
{
	struct error err = ERROR_NONE;
	int pair[2];
	struct nbd_netlink_device device = { .sockets = pair, .nr_sockets = 1, .size = 512 };

	hangs = false;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(nbd_netlink_connect(&device, 30, &err), 0);
	assert_true(seen == inode_of(pair[0]));
	close(pair[0]);
	close(pair[1]);
}

static void nobody_waits_for_ever(void **state)
{
	struct error err = ERROR_NONE;

	hangs = true;
	assert_int_equal(nbd_netlink_disconnect(7, 1, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "did not answer within 1 s"));
	sem_post(&let_go);
	sem_wait(&done);
}

/* The kernel comes to the socket when its number is another file's, as far as the caller goes. */
static void what_is_left_to_the_kernel_is_whole(void **state)
{
	struct error err = ERROR_NONE;
	int pair[2], other[2];
	struct nbd_netlink_device device = { .sockets = pair, .nr_sockets = 1, .identifier = "x" };
	ino_t meant;

	hangs = true;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	meant = inode_of(pair[0]);
	assert_int_equal(nbd_netlink_reconfigure(&device, 1, &err), -ETIMEDOUT);
	close(pair[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
	sem_post(&let_go);
	sem_wait(&done);
	assert_true(seen == meant);
	close(pair[1]);
	close(other[0]);
	close(other[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_answered_is_done, make),
		cmocka_unit_test_setup(nobody_waits_for_ever, make),
		cmocka_unit_test_setup(what_is_left_to_the_kernel_is_whole, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
