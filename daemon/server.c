#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/list.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/path.h"
#include "daemon/connection.h"

#define CONNECTIONS_MAX 256
#define BACKLOG		64
#define DIRECTORY_MODE	0755

struct server {
	struct server_config config;
	int fd;
	gid_t group;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

	pthread_mutex_t lock;
	pthread_cond_t ended; /* a connection left the list */
	struct list connections;
	unsigned count;
};

/* One connection and its thread; in server.connections until the thread ends. */
struct peer {
	struct list entry;
	struct server *server;
	int fd;
};

static int find_group(const char *name, gid_t *ret, struct error *err)
{
	struct group *group = getgrnam(name);

	if (!group)
		return error_set(err, -ENOENT,
				 "There is no group \"%s\"; create it or leave --group out.", name);
	*ret = group->gr_gid;
	return 0;
}

static int parent_directory(const char *path, struct error *err)
{
	cleanup_free char *copy = strdup(path);
	char *slash = copy ? strrchr(copy, '/') : NULL;
	int r;

	if (!slash || slash == copy)
		return 0;
	*slash = '\0';
	r = path_make_directories(copy, DIRECTORY_MODE);
	return r < 0 ? error_set(err, r, "Cannot make the directory %s: %s.", copy, errno_text(r))
		     : 0;
}

static int set_address(const char *path, struct sockaddr_un *ret, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "The socket path %s is too long: at most %zu bytes. Give a "
				 "shorter --socket.",
				 path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	*ret = address;
	return 0;
}

/* A socket file that nobody serves is left over from a urbdd that was killed: it may go. */
static int clear_path(const struct sockaddr_un *address, struct error *err)
{
	cleanup_close int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (probe < 0)
		return error_set(err, -errno, "Cannot make a socket: %s.", errno_text(errno));
	if (lstat(address->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EEXIST,
				 "%s exists and is no socket. Name another path with --socket.",
				 address->sun_path);
	if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno == EAGAIN)
		return error_set(
			err, -EADDRINUSE,
			"Another urbdd serves on %s. Stop it, or name another path with --socket.",
			address->sun_path);
	unlink(address->sun_path);
	return 0;
}

/* The file appears with its final mode: bind() obeys the umask. */
static int bind_private(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t old = umask(0777 & ~mode);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(old);
	return r;
}

static int open_socket(struct server *server, struct error *err)
{
	struct sockaddr_un address;
	int r;

	r = set_address(server->config.socket_path, &address, err);
	if (r < 0)
		return r;
	r = clear_path(&address, err);
	if (r < 0)
		return r;
	server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0)
		return error_set(err, -errno, "Cannot make a socket: %s.", errno_text(errno));
	r = bind_private(server->fd, &address, 0600);
	if (r < 0)
		return error_set(err, r, "Cannot bind %s: %s.", address.sun_path, errno_text(r));
	memcpy(server->path, address.sun_path, sizeof(server->path));
	return 0;
}

static int admit_group(struct server *server, struct error *err)
{
	const char *path = server->config.socket_path;
	int r;

	if (!server->config.group)
		return 0;
	r = find_group(server->config.group, &server->group, err);
	if (r < 0)
		return r;
	if (chown(path, (uid_t)-1, server->group) < 0 || chmod(path, 0660) < 0)
		return error_set(err, -errno, "Cannot give %s to group %s: %s.", path,
				 server->config.group, errno_text(errno));
	return 0;
}

static int listen_on(struct server *server, struct error *err)
{
	int r;

	r = parent_directory(server->config.socket_path, err);
	if (r < 0)
		return r;
	r = open_socket(server, err);
	if (r < 0)
		return r;
	r = admit_group(server, err);
	if (r < 0)
		return r;
	if (listen(server->fd, BACKLOG) < 0)
		return error_set(err, -errno, "Cannot listen on %s: %s.",
				 server->config.socket_path, errno_text(errno));
	return 0;
}

int server_create(const struct server_config *config, struct server **ret, struct error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return error_set(err, -ENOMEM, "Out of memory.");
	server->config = *config;
	server->fd = -1;
	list_init(&server->connections);
	pthread_mutex_init(&server->lock, NULL);
	deadline_condition(&server->ended);
	r = listen_on(server, err);
	if (r < 0) {
		server_destroy(server);
		return r;
	}
	*ret = server;
	return 0;
}

int server_fd(const struct server *server)
{
	return server->fd;
}

/* Whether @group is among the supplementary groups that the peer had when it connected. */
static bool peer_is_in(int fd, gid_t group)
{
	cleanup_free gid_t *groups = NULL;
	socklen_t size = 0;
	bool found = false;

	/* With no room for them it fails with ERANGE, and tells how much they need. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE)
		return false;
	groups = malloc(size);
	if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t i = 0; i < size / sizeof(*groups) && !found; i++)
		found = groups[i] == group;
	return found;
}

/* The file's mode keeps others out; this stands for the case that somebody widened it. */
static bool peer_allowed(const struct server *server, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return false;
	if (cred.uid == 0 || cred.uid == geteuid())
		return true;
	return server->config.group && (cred.gid == server->group || peer_is_in(fd, server->group));
}

static void leave(struct peer *peer)
{
	struct server *server = peer->server;

	pthread_mutex_lock(&server->lock);
	list_remove(&peer->entry);
	close(peer->fd);
	free(peer);
	server->count--;
	pthread_cond_broadcast(&server->ended);
	pthread_mutex_unlock(&server->lock);
}

static void *peer_main(void *data)
{
	struct peer *peer = data;

	connection_serve(peer->fd, peer->server->config.call, peer->server->config.data);
	leave(peer);
	return NULL;
}

static int enter(struct server *server, int fd, struct peer **ret)
{
	struct peer *peer = malloc(sizeof(*peer));
	int r = 0;

	if (!peer)
		return -ENOMEM;
	*peer = (struct peer){ .server = server, .fd = fd };
	list_init(&peer->entry);
	pthread_mutex_lock(&server->lock);
	if (server->count == CONNECTIONS_MAX) {
		r = -EBUSY;
	} else {
		server->count++;
		list_append(&server->connections, &peer->entry);
	}
	pthread_mutex_unlock(&server->lock);
	if (r < 0)
		free(peer);
	else
		*ret = peer;
	return r;
}

static void serve_peer(struct server *server, int fd)
{
	struct peer *peer;
	int r;

	if (!peer_allowed(server, fd)) {
		log_warning(
			"A peer that is neither root nor in the socket's group was turned away.");
		close(fd);
		return;
	}
	r = enter(server, fd, &peer);
	if (r < 0) {
		log_warning("A control connection was refused: %s.", errno_text(r));
		close(fd);
		return;
	}
	if (thread_detached(peer_main, peer) < 0)
		leave(peer);
}

void server_accept(struct server *server)
{
	int fd;

	while ((fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		serve_peer(server, fd);
	/* Out of descriptors: the listener stays readable; a pause keeps the main loop from
	 * spinning. */
	if (errno == EMFILE || errno == ENFILE)
		usleep(100 * 1000);
}

/* Half-closing a connection lets the call that runs send its answer, and ends the thread after it.
 */
static void end_reading(struct server *server)
{
	list_for_each(entry, &server->connections)
		shutdown(list_entry(entry, struct peer, entry)->fd, SHUT_RD);
}

void server_stop(struct server *server)
{
	if (*server->path)
		unlink(server->path);
	cleanup_close_fn(&server->fd);
	server->fd = -1;
	pthread_mutex_lock(&server->lock);
	end_reading(server);
	pthread_mutex_unlock(&server->lock);
}

bool server_await(struct server *server, const struct timespec *deadline)
{
	bool ended;

	pthread_mutex_lock(&server->lock);
	while (server->count > 0 &&
	       pthread_cond_timedwait(&server->ended, &server->lock, deadline) == 0)
		;
	ended = server->count == 0;
	pthread_mutex_unlock(&server->lock);
	return ended;
}

void server_destroy(struct server *server)
{
	if (!server)
		return;
	if (server->fd >= 0 && *server->path)
		unlink(server->path);
	cleanup_close_fn(&server->fd);
	pthread_cond_destroy(&server->ended);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
