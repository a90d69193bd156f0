#include "nbd/kernel.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/command.h"
#include "common/deadline.h"
#include "common/log.h"
#include "core/partitions.h"
#include "nbd/connection.h"
#include "nbd/netlink.h"
#include "nbd/protocol.h"
#include "nbd/socket.h"
#include "nbd/sysfs.h"

/* The driver's own depth of a hardware queue. */
#define KERNEL_DEPTH 128

#define NUMBERS_MAX 1024

/*
 * Requests wait this long for new sockets when all are dead, which is when this daemon is. Long
 * enough to come back from anything; an operator can end it through NBD_CMD_DISCONNECT.
 */
#define DEAD_TIMEOUT (24 * 60 * 60)

/* The largest request that the kernel shall make; its default is 128 KiB. */
#define MAX_KIB (FRONTEND_MAX_IO / 1024)

/* Within which the driver lets go of a socket that it has no use for. */
#define SETTLE_MS 20

/* Between two attempts to replace a connection. */
#define MEND_PAUSE_MS 500

/*
 * How often, in milliseconds, the driver looks at a request that takes long (nbd_xmit_timeout(),
 * alike in 6.1 and 6.12). With one connection it then sends the request again only if its socket
 * was replaced meanwhile, so this is how long what was in flight waits after a server's death.
 *
 * With several it takes the socket for dead instead, and sends the request again on another one
 * while the image may still hold the first copy. That is harmless where writes of one client to one
 * object stay in order, as in RADOS, but costs connections when the cluster stands still; hence the
 * driver's own 30 s there, and one connection unless more are asked for.
 */
#define LOOK_MS 2000

/* Seconds for which a stop by force waits until the device is gone. */
#define FORCED_GONE 1

#define MODPROBE_SECONDS 10
#define DISCARD_SECONDS	 8

#define CONNECTIONS_MAX FRONTEND_HW_QUEUES_MAX

/* A hardware queue: its connection, while there is one. */
struct link {
	struct nbd_kernel *kernel;
	struct nbd_connection *connection;
};

struct nbd_kernel {
	struct frontend frontend;
	struct nbd_export export;
	struct queue *queues[CONNECTIONS_MAX];
	char *identifier;

	/* Queue threads take the lock when a connection closes; never held over anything slow. */
	pthread_mutex_t lock;
	pthread_cond_t closed;
	struct link links[CONNECTIONS_MAX];
	unsigned nr_connections;
	bool connected;	     /* by us, and not disconnected since; the caller's thread alone */
	bool unanswered;     /* to be connected by us, but the kernel has not said so; likewise */
	bool live;	     /* lost connections are to be replaced */
	bool mender_started; /* the thread that replaces them */
	pthread_t mender;
};

/* Numbers that frontends of this process have reserved. */
static pthread_mutex_t reserved_lock = PTHREAD_MUTEX_INITIALIZER;
static bool reserved[NUMBERS_MAX];

static struct nbd_kernel *kernel_of(struct frontend *frontend)
{
	return container_of(frontend, struct nbd_kernel, frontend);
}

/* Whether it helped shows in nbd_netlink_probe(). */
static void load_module(void)
{
	const char *const argv[] = { "modprobe", "-q", "nbd", NULL };

	(void)!command_run(argv, MODPROBE_SECONDS);
}

static int nbd_probe(struct error *err)
{
	struct error ignored = ERROR_NONE;

	if (geteuid() != 0)
		return error_set(err, -EPERM, "only root can make NBD devices");
	if (nbd_netlink_probe(&ignored) == 0)
		return 0;
	load_module();
	if (nbd_netlink_probe(err) == 0)
		return 0;
	return error_set(err, -ENODEV,
			 "the kernel has no nbd driver: install the package of its modules, and "
			 "see that `modprobe nbd` works");
}

/* Only what this process does is certain: others may take the number before start. */
static bool reserve_free(int *number)
{
	for (int i = 0; i < NUMBERS_MAX; i++) {
		if (reserved[i] || nbd_sysfs_connected(i))
			continue;
		reserved[i] = true;
		*number = i;
		return true;
	}
	return false;
}

static int reserve(int asked, int *number, struct error *err)
{
	bool got;

	if (asked >= NUMBERS_MAX)
		return error_set(err, -EINVAL, "/dev/nbd%d is beyond the last one, /dev/nbd%d",
				 asked, NUMBERS_MAX - 1);
	pthread_mutex_lock(&reserved_lock);
	if (asked < 0) {
		got = reserve_free(number);
	} else {
		got = !reserved[asked];
		reserved[asked] = true;
		*number = asked;
	}
	pthread_mutex_unlock(&reserved_lock);
	if (got)
		return 0;
	return asked < 0 ? error_set(err, -EBUSY, "all %d NBD devices are in use", NUMBERS_MAX)
			 : error_set(err, -EBUSY, "/dev/nbd%d is in use", asked);
}

static void unreserve(int number)
{
	pthread_mutex_lock(&reserved_lock);
	reserved[number] = false;
	pthread_mutex_unlock(&reserved_lock);
}

static void *mend(void *data);

/* Queue thread. A live device gets another connection for the one that it lost. */
static void link_closed(struct nbd_connection *connection, void *data)
{
	struct link *link = data;
	struct nbd_kernel *kernel = link->kernel;

	pthread_mutex_lock(&kernel->lock);
	link->connection = NULL;
	kernel->nr_connections--;
	if (kernel->live && !kernel->mender_started)
		kernel->mender_started = pthread_create(&kernel->mender, NULL, mend, kernel) == 0;
	pthread_cond_broadcast(&kernel->closed);
	pthread_mutex_unlock(&kernel->lock);
}

static void adopt(struct link *link, struct nbd_connection *connection)
{
	struct nbd_kernel *kernel = link->kernel;

	pthread_mutex_lock(&kernel->lock);
	link->connection = connection;
	kernel->nr_connections++;
	nbd_connection_start(connection);
	pthread_mutex_unlock(&kernel->lock);
}

/* A connection for the @index-th hardware queue; *ret is the kernel's end of it. */
static int open_link(struct nbd_kernel *kernel, unsigned index, int *ret)
{
	const struct frontend_config *config = &kernel->frontend.config;
	struct nbd_connection_config connection = {
		.queue = kernel->queues[index],
		.session = { .depth = MIN(config->depth, KERNEL_DEPTH),
			     .max_payload = NBD_PAYLOAD_DEFAULT },
		.export = &kernel->export,
		.closed = link_closed,
		.data = &kernel->links[index],
	};
	struct nbd_connection *opened;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	nbd_socket_prepare(pair[0]);
	nbd_socket_prepare(pair[1]);
	connection.fd = pair[0];
	r = nbd_connection_create(&connection, &opened);
	if (r < 0) {
		close(pair[0]);
		close(pair[1]);
		return r;
	}
	adopt(&kernel->links[index], opened);
	*ret = pair[1];
	return 0;
}

static void close_sockets(const int *sockets, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		close(sockets[i]);
}

static struct nbd_netlink_device netlink_device(struct nbd_kernel *kernel, const int *sockets,
						unsigned nr_sockets)
{
	return (struct nbd_netlink_device){
		.number = kernel->frontend.number,
		.identifier = kernel->identifier,
		.sockets = sockets,
		.nr_sockets = nr_sockets,
	};
}

static int replace_link(struct nbd_kernel *kernel, unsigned index)
{
	struct nbd_netlink_device device;
	struct error ignored = ERROR_NONE;
	int fd, r = open_link(kernel, index, &fd);

	if (r < 0)
		return r;
	device = netlink_device(kernel, &fd, 1);
	r = nbd_netlink_reconfigure(&device, kernel->frontend.config.deadline, &ignored);
	close(fd);
	return r;
}

/* With the lock. A hardware queue without connection, or -1. */
static int find_missing(const struct nbd_kernel *kernel)
{
	for (unsigned i = 0; i < kernel->frontend.config.nr_queues; i++)
		if (!kernel->links[i].connection)
			return i;
	return -1;
}

/* Waits for a lost connection; -1 when the device's life is over. */
static int await_missing(struct nbd_kernel *kernel)
{
	int index;

	pthread_mutex_lock(&kernel->lock);
	while ((index = find_missing(kernel)) < 0 && kernel->live)
		pthread_cond_wait(&kernel->closed, &kernel->lock);
	if (!kernel->live)
		index = -1;
	pthread_mutex_unlock(&kernel->lock);
	return index;
}

/*
 * Thread of a device that lost a connection, for the rest of its life. A connection is closed only
 * after the image has completed what came over it, so an old request is done before its socket is
 * replaced and the kernel sends it again.
 */
static void *mend(void *data)
{
	struct nbd_kernel *kernel = data;
	int index;

	while ((index = await_missing(kernel)) >= 0) {
		if (replace_link(kernel, index) < 0 &&
		    !nbd_sysfs_connected(kernel->frontend.number))
			break;
		/* The driver may take a socket, say so, and let go of it at once. */
		pause_ms(MEND_PAUSE_MS);
	}
	return NULL;
}

static int open_links(struct nbd_kernel *kernel, int *sockets, struct error *err)
{
	for (unsigned i = 0; i < kernel->frontend.config.nr_queues; i++) {
		int r = open_link(kernel, i, &sockets[i]);

		if (r < 0) {
			close_sockets(sockets, i);
			return error_set(err, r, "cannot make a connection for %s: %s",
					 kernel->frontend.device, errno_text(r));
		}
	}
	return 0;
}

/* Ends all connections; those whose requests the image holds go on until it lets go. */
static void stop_links(struct nbd_kernel *kernel, enum nbd_stop how)
{
	pthread_mutex_lock(&kernel->lock);
	for (unsigned i = 0; i < kernel->frontend.config.nr_queues; i++)
		if (kernel->links[i].connection)
			nbd_connection_stop(kernel->links[i].connection, how);
	pthread_mutex_unlock(&kernel->lock);
}

static void nbd_trim(struct frontend *frontend)
{
	struct nbd_kernel *kernel = kernel_of(frontend);

	pthread_mutex_lock(&kernel->lock);
	for (unsigned i = 0; i < kernel->frontend.config.nr_queues; i++)
		if (kernel->links[i].connection)
			nbd_connection_trim(kernel->links[i].connection);
	pthread_mutex_unlock(&kernel->lock);
}

static void set_live(struct nbd_kernel *kernel, bool live)
{
	bool join;

	pthread_mutex_lock(&kernel->lock);
	kernel->live = live;
	pthread_cond_broadcast(&kernel->closed);
	join = !live && kernel->mender_started;
	if (join)
		kernel->mender_started = false;
	pthread_mutex_unlock(&kernel->lock);
	if (join)
		pthread_join(kernel->mender, NULL);
}

static bool is_dead(int pid)
{
	return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* True for a device that a process which is no more has connected to the same image. */
static bool orphaned(struct nbd_kernel *kernel)
{
	char identifier[512];

	return kernel->identifier[0] && is_dead(nbd_sysfs_pid(kernel->frontend.number)) &&
	       nbd_sysfs_identifier(kernel->frontend.number, identifier, sizeof(identifier)) &&
	       strcmp(identifier, kernel->identifier) == 0;
}

/*
 * The protocol has no other word for a volatile cache than the offer of a flush. Without a cache
 * that would cost the file systems above a round trip for nothing.
 */
static uint16_t server_flags(const struct nbd_kernel *kernel)
{
	uint16_t flags = nbd_export_flags(&kernel->export);

	if (!kernel->export.image->info.volatile_cache)
		flags &= ~(NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA);
	return flags;
}

static int connect_device(struct nbd_kernel *kernel, const int *sockets, struct error *err)
{
	const struct image_info *info = &kernel->export.image->info;
	unsigned tries = kernel->frontend.config.deadline * 20;
	struct nbd_netlink_device device =
		netlink_device(kernel, sockets, kernel->frontend.config.nr_queues);
	int r;

	device.size = info->size;
	device.block_size = info->block_size;
	device.server_flags = server_flags(kernel);
	device.dead_timeout = DEAD_TIMEOUT;
	/* Somebody who only looks (udev, after the last unmap) keeps a number busy for a moment. */
	while ((r = nbd_netlink_connect(&device, kernel->frontend.config.deadline, err)) ==
		       -EBUSY &&
	       tries-- > 0 && !nbd_sysfs_connected(device.number))
		pause_ms(50);
	kernel->unanswered = r == -ETIMEDOUT;
	if (r == -EBUSY)
		error_set(err, r, "%s is in use by another process; try again",
			  kernel->frontend.device);
	return r;
}

static int missing_link(struct nbd_kernel *kernel)
{
	int index;

	pthread_mutex_lock(&kernel->lock);
	index = find_missing(kernel);
	pthread_mutex_unlock(&kernel->lock);
	return index;
}

/*
 * The driver silently lets go of a socket for which it has no dead one: it may not have noticed the
 * death yet, and is given another until the deadline.
 */
static int reconnect_device(struct nbd_kernel *kernel, const int *sockets, struct error *err)
{
	struct nbd_netlink_device device =
		netlink_device(kernel, sockets, kernel->frontend.config.nr_queues);
	struct timespec end = deadline_in(kernel->frontend.config.deadline);
	int r = nbd_netlink_reconfigure(&device, kernel->frontend.config.deadline, err), index;

	if (r < 0)
		return r;
	do {
		pause_ms(SETTLE_MS);
		index = missing_link(kernel);
		if (index < 0)
			return 0;
		if (replace_link(kernel, (unsigned)index) < 0)
			break;
	} while (!deadline_passed(&end));
	return error_set(err, -EBUSY, "%s is served by another process", kernel->frontend.device);
}

static int await_node(struct nbd_kernel *kernel, struct error *err)
{
	const char *path = kernel->frontend.device;

	for (unsigned i = 0; i < kernel->frontend.config.deadline * 100; i++) {
		if (access(path, F_OK) == 0)
			return 0;
		pause_ms(10);
	}
	return error_set(err, -ENOENT, "%s is connected but does not appear: is devtmpfs at /dev?",
			 path);
}

/* One that is taken back may have a file system on it, which needs no node. */
static int find_node(struct nbd_kernel *kernel, bool again, struct error *err)
{
	int r = await_node(kernel, err);

	if (r == 0 || !again)
		return r;
	log_warning("%s is served, but not to be opened: %s", kernel->frontend.device, err->text);
	return 0;
}

static void note_features(struct nbd_kernel *kernel)
{
	struct frontend *frontend = &kernel->frontend;
	bool zeroes = nbd_sysfs_limit(frontend->number, "write_zeroes_max_bytes") > 0;
	char identifier[8];

	snprintf(frontend->features, sizeof(frontend->features), "%u connection%s%s%s",
		 frontend->config.nr_queues, frontend->config.nr_queues == 1 ? "" : "s",
		 zeroes ? ", write-zeroes" : "",
		 nbd_sysfs_identifier(frontend->number, identifier, sizeof(identifier))
			 ? ", identifier"
			 : "");
}

/* All best effort: without them the device is but slower, at its work or at coming back. */
static void set_limits(struct nbd_kernel *kernel)
{
	const struct frontend *frontend = &kernel->frontend;
	unsigned deadline = frontend->config.deadline;

	(void)!nbd_sysfs_set_limit(frontend->number, "max_sectors_kb", MAX_KIB, deadline);
	if (frontend->config.nr_queues == 1)
		(void)!nbd_sysfs_set_limit(frontend->number, "io_timeout", LOOK_MS, deadline);
}

/*
 * The driver has the first who opens the device read its partition table. That must not be this
 * process, which opens it later, to see whether it is in use.
 */
static void read_partitions(const struct nbd_kernel *kernel)
{
	(void)!partitions_read(kernel->frontend.device, kernel->frontend.config.deadline);
}

static int nbd_start(struct frontend *frontend, struct error *err)
{
	struct nbd_kernel *kernel = kernel_of(frontend);
	int sockets[CONNECTIONS_MAX];
	int r = open_links(kernel, sockets, err);
	bool again;

	if (r < 0)
		return r;
	again = frontend->config.take_back || orphaned(kernel);
	r = again ? reconnect_device(kernel, sockets, err) : connect_device(kernel, sockets, err);
	close_sockets(sockets, frontend->config.nr_queues);
	if (r < 0)
		return r;
	kernel->connected = true;
	frontend->config.take_back = false; /* it is ours like any other now */
	set_limits(kernel);
	note_features(kernel);
	set_live(kernel, true);
	r = find_node(kernel, again, err);
	if (r == 0 && !again)
		read_partitions(kernel);
	return r;
}

static unsigned in_flight(struct nbd_kernel *kernel)
{
	unsigned count = 0;

	pthread_mutex_lock(&kernel->lock);
	for (unsigned i = 0; i < kernel->frontend.config.nr_queues; i++)
		if (kernel->links[i].connection)
			count += nbd_connection_in_flight(kernel->links[i].connection);
	pthread_mutex_unlock(&kernel->lock);
	return count;
}

static int await_idle(struct nbd_kernel *kernel, const struct timespec *deadline, struct error *err)
{
	while (in_flight(kernel) > 0) {
		if (deadline_passed(deadline))
			return error_set(err, -ETIMEDOUT,
					 "requests to %s are still in flight; wait for the "
					 "storage, or unmap with --force",
					 kernel->frontend.device);
		pause_ms(5);
	}
	return 0;
}

/* The driver keeps what is left of the device as long as somebody has it open. */
static int await_gone(struct nbd_kernel *kernel, const struct timespec *deadline, struct error *err)
{
	while (nbd_sysfs_connected(kernel->frontend.number)) {
		if (deadline_passed(deadline))
			return error_set(err, -EBUSY, "%s is still open somewhere",
					 kernel->frontend.device);
		pause_ms(10);
	}
	return 0;
}

/*
 * With force the connections go first: the driver says good-bye on its sockets, and would wait for
 * ever at one that nobody reads. It fails what was in flight itself.
 */
static int nbd_stop(struct frontend *frontend, bool force, unsigned seconds, struct error *err)
{
	struct nbd_kernel *kernel = kernel_of(frontend);
	struct error ignored = ERROR_NONE;
	struct timespec deadline = deadline_in(seconds);
	int r = force ? 0 : await_idle(kernel, &deadline, err);

	if (r < 0)
		return r;
	frontend->ending = true;
	set_live(kernel, false);
	if (force)
		stop_links(kernel, NBD_STOP_NOW);
	r = nbd_netlink_disconnect(frontend->number, deadline_left(&deadline), err);
	stop_links(kernel, NBD_STOP_DRAIN);
	if (r < 0)
		return r;
	kernel->connected = false;
	if (force) {
		deadline = deadline_in(FORCED_GONE);
		await_gone(kernel, &deadline, &ignored);
		return 0;
	}
	return await_gone(kernel, &deadline, err);
}

static bool nbd_detach(struct frontend *frontend)
{
	struct nbd_kernel *kernel = kernel_of(frontend);
	struct error ignored = ERROR_NONE;
	bool gone;

	frontend->detached = true;
	set_live(kernel, false);
	stop_links(kernel, NBD_STOP_NOW);
	/* A start that failed half way has left it connected. */
	if (kernel->connected)
		gone = nbd_netlink_disconnect(frontend->number, frontend->config.deadline,
					      &ignored) == 0;
	else
		gone = !frontend->config.take_back && !kernel->unanswered;
	unreserve(frontend->number);
	return gone;
}

static void nbd_destroy(struct frontend *frontend)
{
	struct nbd_kernel *kernel;

	if (!frontend)
		return;
	kernel = kernel_of(frontend);
	if (!frontend->detached)
		nbd_detach(frontend);
	pthread_mutex_lock(&kernel->lock);
	while (kernel->nr_connections > 0)
		pthread_cond_wait(&kernel->closed, &kernel->lock);
	pthread_mutex_unlock(&kernel->lock);
	pthread_cond_destroy(&kernel->closed);
	pthread_mutex_destroy(&kernel->lock);
	free(kernel->identifier);
	free(kernel);
}

static int nbd_resize(struct frontend *frontend, uint64_t size, struct error *err)
{
	struct nbd_kernel *kernel = kernel_of(frontend);
	struct nbd_netlink_device device = netlink_device(kernel, NULL, 0);
	int r;

	device.size = size;
	device.block_size = kernel->export.image->info.block_size;
	r = nbd_netlink_reconfigure(&device, frontend->config.deadline, err);
	if (r == 0)
		read_partitions(kernel);
	return r;
}

/*
 * Of a mark, the driver keeps the name; before 5.14 not even that, and each device is taken for the
 * one that is meant. Later kernels lack it where somebody else has connected the device.
 */
static int nbd_look(int number, const struct frontend_mark *mark, struct error *err)
{
	char identifier[512];
	int r;

	if (!nbd_sysfs_connected(number))
		return LEFTOVER_NONE;
	if (nbd_sysfs_identifier(number, identifier, sizeof(identifier)))
		return strcmp(identifier, mark->name) == 0 ? LEFTOVER_WAITS : LEFTOVER_OTHERS;
	r = nbd_netlink_has_identifiers(err);
	if (r < 0)
		return r;
	return r > 0 ? LEFTOVER_OTHERS : LEFTOVER_WAITS;
}

/* Others attach their own servers' sockets and end, but not under names like ours. */
static bool nbd_orphan(int number)
{
	char identifier[512];

	return is_dead(nbd_sysfs_pid(number)) &&
	       nbd_sysfs_identifier(number, identifier, sizeof(identifier)) &&
	       (strncmp(identifier, "rbd:", 4) == 0 || strncmp(identifier, "file:", 5) == 0);
}

static int nbd_discard(int number, const struct frontend_mark *mark, struct error *err)
{
	int pid = nbd_sysfs_pid(number);
	int r = mark ? nbd_look(number, mark, err) : LEFTOVER_WAITS;

	if (r != LEFTOVER_WAITS)
		return MIN(r, 0);
	if (pid > 0 && pid != getpid() && kill(pid, 0) == 0)
		return error_set(err, -EBUSY, "process %d serves it", pid);
	return nbd_netlink_disconnect(number, DISCARD_SECONDS, err);
}

static void fill(struct nbd_kernel *kernel, const struct frontend_config *config, int number)
{
	struct frontend *frontend = &kernel->frontend;

	frontend->ops = &nbd_frontend;
	frontend->config = *config;
	frontend->config.queues = kernel->queues;
	frontend->config.nr_queues = MIN(config->nr_queues, CONNECTIONS_MAX);
	frontend->config.name = kernel->identifier;
	frontend->number = number;
	snprintf(frontend->device, sizeof(frontend->device), "/dev/nbd%d", number);
	kernel->export = (struct nbd_export){ .name = kernel->identifier, .image = config->image };
	pthread_mutex_init(&kernel->lock, NULL);
	pthread_cond_init(&kernel->closed, NULL);
	for (unsigned i = 0; i < frontend->config.nr_queues; i++) {
		kernel->queues[i] = config->queues[i];
		kernel->links[i].kernel = kernel;
	}
}

static int nbd_create(const struct frontend_config *config, struct frontend **ret,
		      struct error *err)
{
	struct nbd_kernel *kernel = calloc(1, sizeof(*kernel));
	int number = -1, r;

	if (kernel)
		kernel->identifier = strdup(config->name ?: "");
	if (!kernel || !kernel->identifier) {
		free(kernel);
		return error_set(err, -ENOMEM, "out of memory");
	}
	r = reserve(config->number, &number, err);
	if (r < 0) {
		free(kernel->identifier);
		free(kernel);
		return r;
	}
	fill(kernel, config, number);
	*ret = &kernel->frontend;
	return 0;
}

const struct frontend_ops nbd_frontend = {
	.name = "nbd",
	.path_prefix = "/dev/nbd",
	.orphan = nbd_orphan,
	.hw_queues_default = 1,
	.probe = nbd_probe,
	.create = nbd_create,
	.start = nbd_start,
	.stop = nbd_stop,
	.detach = nbd_detach,
	.destroy = nbd_destroy,
	.trim = nbd_trim,
	.resize = nbd_resize,
	.look = nbd_look,
	.discard = nbd_discard,
};
