#include "nbd/server.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/list.h"
#include "nbd/address.h"
#include "nbd/budget.h"
#include "nbd/connection.h"
#include "nbd/protocol.h"
#include "nbd/socket.h"
#include "nbd/tls.h"

/* Pause before the next accept where the system has no descriptor or memory left. */
#define ACCEPT_PAUSE_NS (100 * 1000 * 1000)

struct export
{
	struct nbd_export base;
	struct list entry;   /* server->exports, in the order of coming */
	unsigned references; /* sessions that hold it */
	bool removed;	     /* sessions no longer find it */
	bool cut;	     /* its removal is forced */
};

/* An address in numbers. */
#define PEER_MAX 64

/* A connection, from accept until it is closed. */
struct client {
	struct list entry;
	struct nbd_server *server;
	struct nbd_connection *connection;
	unsigned queue;	       /* its index */
	struct export *export; /* once chosen */
	char address[NBD_ADDRESS_MAX], peer[PEER_MAX];
};

/* A listening socket. Its ring operations belong to the server's first queue. */
struct listener {
	struct list entry;
	struct nbd_server *server;
	int fd;
	struct ring_op op;
	struct __kernel_timespec pause;
	bool armed;
	char bound[NBD_ADDRESS_MAX];
};

struct nbd_server {
	struct nbd_server_config config;
	struct queue **queues;
	struct nbd_directory directory;

	/* Taken by queue threads for moments only; nothing else is locked under it. */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* an export lost a reference, a client left */
	struct list exports, clients, listeners;
	unsigned nr_clients;
	bool stopping;
	unsigned last_queue; /* that was given a client; the accepting thread's */
	unsigned loads[];    /* clients of each queue */
};

static struct export *export_of(struct nbd_export *base)
{
	return container_of(base, struct export, base);
}

/* With the lock. The empty name stands for the export that was there first. */
static struct export *find(struct nbd_server *server, const char *name)
{
	list_for_each(entry, &server->exports) {
		struct export *export = list_entry(entry, struct export, entry);

		if (!export->removed && (name[0] == 0 || strcmp(export->base.name, name) == 0))
			return export;
	}
	return NULL;
}

static struct nbd_export *directory_get(void *data, const char *name)
{
	struct nbd_server *server = data;
	struct export *export;

	pthread_mutex_lock(&server->lock);
	export = find(server, name);
	if (export)
		export->references++;
	pthread_mutex_unlock(&server->lock);
	return export ? &export->base : NULL;
}

static void directory_put(void *data, struct nbd_export *base)
{
	struct nbd_server *server = data;

	pthread_mutex_lock(&server->lock);
	export_of(base)->references--;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
}

/* The order of names is one that holds while exports come and go. */
static struct export *next_by_name(struct nbd_server *server, const char *previous)
{
	struct export *next = NULL;

	list_for_each(entry, &server->exports) {
		struct export *export = list_entry(entry, struct export, entry);

		if (export->removed || strcmp(export->base.name, previous) <= 0)
			continue;
		if (!next || strcmp(export->base.name, next->base.name) < 0)
			next = export;
	}
	return next;
}

static struct nbd_export *directory_next(void *data, const char *previous)
{
	struct nbd_server *server = data;
	struct export *next;

	pthread_mutex_lock(&server->lock);
	next = next_by_name(server, previous);
	if (next)
		next->references++;
	pthread_mutex_unlock(&server->lock);
	return next ? &next->base : NULL;
}

/* Queue thread. An export that was removed meanwhile loses this client as all others. */
static void client_chose(struct nbd_connection *connection, struct nbd_export *base, void *data)
{
	struct client *client = data;
	struct nbd_server *server = client->server;

	pthread_mutex_lock(&server->lock);
	client->export = export_of(base);
	if (client->export->removed)
		nbd_connection_stop(connection, NBD_STOP_NOW);
	pthread_mutex_unlock(&server->lock);
}

static void refuse(struct nbd_server *server, const char *address, const char *peer,
		   const char *why)
{
	if (server->config.refused)
		server->config.refused(address, peer, why);
}

/* Queue thread. */
static void client_closed(struct nbd_connection *connection, void *data)
{
	struct client *client = data;
	struct nbd_server *server = client->server;

	if (!client->export && nbd_connection_refusal(connection))
		refuse(server, client->address, client->peer, nbd_connection_refusal(connection));
	pthread_mutex_lock(&server->lock);
	list_remove(&client->entry);
	server->nr_clients--;
	server->loads[client->queue]--;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	free(client);
}

/* With the lock. */
static int admit(struct nbd_server *server, struct client *client)
{
	if (server->stopping)
		return -ESHUTDOWN;
	if (server->nr_clients >= server->config.max_connections)
		return -EMFILE;
	server->nr_clients++;
	server->loads[client->queue]++;
	list_append(&server->clients, &client->entry);
	nbd_connection_start(client->connection);
	return 0;
}

/* "" on a unix socket. */
static void peer_of(int fd, char peer[PEER_MAX])
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);

	peer[0] = '\0';
	if (getpeername(fd, (struct sockaddr *)&address, &length) < 0 ||
	    address.ss_family == AF_UNIX)
		return;
	if (getnameinfo((struct sockaddr *)&address, length, peer, PEER_MAX, NULL, 0,
			NI_NUMERICHOST) != 0)
		peer[0] = '\0';
}

/*
 * That with the fewest clients: who connects next to a busy one should not wait for its thread
 * while another thread has nothing to do. Among equals in turn.
 */
static unsigned choose_queue(struct nbd_server *server)
{
	unsigned count = server->config.nr_queues, best = (server->last_queue + 1) % count;

	pthread_mutex_lock(&server->lock);
	for (unsigned i = 0, queue = best; i < count; i++, queue = (queue + 1) % count)
		if (server->loads[queue] < server->loads[best])
			best = queue;
	pthread_mutex_unlock(&server->lock);
	return server->last_queue = best;
}

/* Takes @fd over on success. */
static int add_client(struct listener *listener, int fd)
{
	struct nbd_server *server = listener->server;
	const struct nbd_server_config *config = &server->config;
	struct client *client = calloc(1, sizeof(*client));
	unsigned queue = choose_queue(server);
	struct nbd_connection_config connection = {
		.queue = server->queues[queue],
		.fd = fd,
		.session = { .depth = config->depth,
			     .max_payload = config->max_payload,
			     .tls = config->credentials ? NBD_TLS_REQUIRED : NBD_TLS_NONE,
			     .budget = config->budgets ? &config->budgets[queue] : NULL,
			     .directory = &server->directory },
		.credentials = config->credentials,
		.handshake_seconds = config->handshake_seconds,
		.chosen = client_chose,
		.closed = client_closed,
		.data = client,
	};
	int r = client ? nbd_connection_create(&connection, &client->connection) : -ENOMEM;

	if (r < 0) {
		free(client);
		return r;
	}
	client->server = server;
	client->queue = queue;
	strcpy(client->address, listener->bound);
	peer_of(fd, client->peer);
	pthread_mutex_lock(&server->lock);
	r = admit(server, client);
	pthread_mutex_unlock(&server->lock);
	if (r == -EMFILE)
		refuse(server, client->address, client->peer,
		       "as many are connected as the address serves (--max-connections)");
	if (r < 0) {
		nbd_connection_discard(client->connection);
		free(client);
	}
	return r;
}

static void arm_accept(struct listener *listener)
{
	struct io_uring_sqe *sqe = queue_get_sqe(listener->server->queues[0]);

	io_uring_prep_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
	queue_sqe_bind(sqe, &listener->op);
}

static void arm_pause(struct listener *listener)
{
	struct io_uring_sqe *sqe = queue_get_sqe(listener->server->queues[0]);

	listener->pause = (struct __kernel_timespec){ .tv_nsec = ACCEPT_PAUSE_NS };
	io_uring_prep_timeout(sqe, &listener->pause, 0, 0);
	queue_sqe_bind(sqe, &listener->op);
}

static bool stopping(struct nbd_server *server)
{
	bool stop;

	pthread_mutex_lock(&server->lock);
	stop = server->stopping;
	pthread_mutex_unlock(&server->lock);
	return stop;
}

static void listener_disarmed(struct listener *listener)
{
	struct nbd_server *server = listener->server;

	pthread_mutex_lock(&server->lock);
	listener->armed = false;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
}

/* A client was accepted, or a pause is over (-ETIME), or accept failed. */
static void accepted(struct ring_op *op, int result, uint32_t flags)
{
	struct listener *listener = container_of(op, struct listener, op);
	bool failed = result < 0 && result != -ETIME && result != -ECONNABORTED;

	if (result >= 0) {
		nbd_socket_prepare(result);
		if (add_client(listener, result) < 0)
			close(result);
	}
	if (stopping(listener->server))
		listener_disarmed(listener);
	else if (failed)
		arm_pause(listener);
	else
		arm_accept(listener);
}

static int start_listener(void *data)
{
	arm_accept(data);
	return 0;
}

int nbd_server_listen(struct nbd_server *server, const char *address, unsigned mode,
		      struct error *err)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int r;

	if (!listener)
		return error_set(err, -ENOMEM, "out of memory");
	r = nbd_address_listen(address, mode ? mode : 0600, &listener->fd, listener->bound, err);
	if (r < 0) {
		free(listener);
		return r;
	}
	listener->server = server;
	listener->op.complete = accepted;
	listener->armed = true;
	pthread_mutex_lock(&server->lock);
	list_append(&server->listeners, &listener->entry);
	pthread_mutex_unlock(&server->lock);
	return queue_call(server->queues[0], start_listener, listener);
}

bool nbd_server_uri(struct nbd_server *server, unsigned index, const char *name, char *uri,
		    size_t size)
{
	bool fits = false;

	pthread_mutex_lock(&server->lock);
	list_for_each(entry, &server->listeners) {
		struct listener *listener = list_entry(entry, struct listener, entry);

		if (index-- == 0) {
			fits = nbd_address_uri(listener->bound, server->config.credentials, name,
					       uri, size);
			break;
		}
	}
	pthread_mutex_unlock(&server->lock);
	return fits;
}

static void free_export(struct export *export)
{
	if (!export)
		return;
	free((char *)export->base.name);
	free((char *)export->base.description);
	free(export);
}

static struct export *new_export(const char *name, const char *description, struct image *image,
				 bool read_only)
{
	struct export *export = calloc(1, sizeof(*export));

	if (!export)
		return NULL;
	export->base = (struct nbd_export){
		.name = strdup(name),
		.description = description ? strdup(description) : NULL,
		.image = image,
		.read_only = read_only,
	};
	if (export->base.name && (!description || export->base.description))
		return export;
	free_export(export);
	return NULL;
}

int nbd_server_add(struct nbd_server *server, const char *name, const char *description,
		   struct image *image, bool read_only, struct error *err)
{
	size_t length = strlen(name);
	struct export *export;
	bool taken;

	if (length == 0 || length > NBD_STRING_MAX)
		return error_set(err, -EINVAL, "an export's name has 1 to %d bytes",
				 NBD_STRING_MAX);
	export = new_export(name, description, image, read_only);
	if (!export)
		return error_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&server->lock);
	taken = find(server, name);
	if (!taken)
		list_append(&server->exports, &export->entry);
	pthread_mutex_unlock(&server->lock);
	if (!taken)
		return 0;
	free_export(export);
	return error_set(err, -EEXIST, "there is an export of the name '%s' already", name);
}

/* With the lock. */
static void stop_clients(struct nbd_server *server, const struct export *export, enum nbd_stop how)
{
	list_for_each(entry, &server->clients) {
		struct client *client = list_entry(entry, struct client, entry);

		if (!export || client->export == export)
			nbd_connection_stop(client->connection, how);
	}
}

/* With the lock: hides the export, then waits until no session holds it. */
static void empty(struct nbd_server *server, struct export *export, bool force, unsigned seconds)
{
	struct timespec deadline = deadline_in(seconds);

	export->removed = true;
	export->cut |= force;
	stop_clients(server, export, export->cut ? NBD_STOP_NOW : NBD_STOP_DRAIN);
	while (!export->cut && export->references > 0)
		if (pthread_cond_timedwait(&server->changed, &server->lock, &deadline) == ETIMEDOUT)
			break;
	if (export->references > 0)
		stop_clients(server, export, NBD_STOP_NOW);
	while (export->references > 0)
		pthread_cond_wait(&server->changed, &server->lock);
	list_remove(&export->entry);
}

int nbd_server_remove(struct nbd_server *server, const char *name, bool force, unsigned seconds,
		      struct error *err)
{
	struct export *export;

	pthread_mutex_lock(&server->lock);
	export = name[0] ? find(server, name) : NULL;
	if (export)
		empty(server, export, force, seconds);
	pthread_mutex_unlock(&server->lock);
	if (!export)
		return error_set(err, -ENOENT, "there is no export of the name '%s'", name);
	free_export(export);
	return 0;
}

void nbd_server_cut(struct nbd_server *server, const char *name)
{
	pthread_mutex_lock(&server->lock);
	list_for_each(entry, &server->exports) {
		struct export *export = list_entry(entry, struct export, entry);

		if (strcmp(export->base.name, name) == 0)
			export->cut = true;
	}
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
}

void nbd_server_drop_clients(struct nbd_server *server, const char *name)
{
	struct export *export;

	pthread_mutex_lock(&server->lock);
	export = find(server, name);
	if (export)
		stop_clients(server, export, NBD_STOP_NOW);
	pthread_mutex_unlock(&server->lock);
}

void nbd_server_trim(struct nbd_server *server, const char *name)
{
	struct export *export;

	pthread_mutex_lock(&server->lock);
	export = find(server, name);
	list_for_each(entry, &server->clients) {
		struct client *client = list_entry(entry, struct client, entry);

		if (export && client->export == export)
			nbd_connection_trim(client->connection);
	}
	pthread_mutex_unlock(&server->lock);
}

unsigned nbd_server_clients(struct nbd_server *server, const char *name)
{
	struct export *export;
	unsigned count = 0;

	pthread_mutex_lock(&server->lock);
	export = name[0] ? find(server, name) : NULL;
	list_for_each(entry, &server->clients)
		count += export && list_entry(entry, struct client, entry)->export == export;
	pthread_mutex_unlock(&server->lock);
	return count;
}

static void set_defaults(struct nbd_server_config *config)
{
	config->max_connections = config->max_connections ?: NBD_SERVER_CONNECTIONS_DEFAULT;
	config->depth = config->depth ?: NBD_SERVER_DEPTH_DEFAULT;
	config->handshake_seconds = config->handshake_seconds ?: NBD_SERVER_HANDSHAKE_SECONDS;
	config->max_payload = config->max_payload ?: NBD_PAYLOAD_DEFAULT;
}

int nbd_server_create(const struct nbd_server_config *config, struct nbd_server **ret,
		      struct error *err)
{
	size_t size = config->nr_queues * sizeof(*config->queues);
	cleanup_free struct nbd_server *server =
		calloc(1, sizeof(*server) + config->nr_queues * sizeof(server->loads[0]));
	struct queue **queues = malloc(size);

	if (!server || !queues) {
		free(queues);
		return error_set(err, -ENOMEM, "out of memory");
	}
	server->config = *config;
	set_defaults(&server->config);
	server->queues = memcpy(queues, config->queues, size);
	server->directory =
		(struct nbd_directory){ directory_get, directory_put, directory_next, server };
	pthread_mutex_init(&server->lock, NULL);
	deadline_condition(&server->changed);
	list_init(&server->exports);
	list_init(&server->clients);
	list_init(&server->listeners);
	*ret = take_ptr(server);
	return 0;
}

/* Ends what the ring holds of a listener, be it an accept or a pause. */
static int cancel_listener(void *data)
{
	struct listener *listener = data;
	struct io_uring_sqe *sqe = queue_get_sqe(listener->server->queues[0]);

	io_uring_prep_cancel(sqe, &listener->op, 0);
	queue_sqe_bind(sqe, NULL);
	return 0;
}

static void free_listener(struct listener *listener)
{
	const char *path = nbd_address_path(listener->bound);

	list_remove(&listener->entry);
	if (path)
		unlink(path);
	close(listener->fd);
	free(listener);
}

static void stop_listening(struct nbd_server *server)
{
	pthread_mutex_lock(&server->lock);
	server->stopping = true;
	pthread_mutex_unlock(&server->lock);
	list_for_each_safe(entry, &server->listeners) {
		struct listener *listener = list_entry(entry, struct listener, entry);

		queue_call(server->queues[0], cancel_listener, listener);
		pthread_mutex_lock(&server->lock);
		while (listener->armed)
			pthread_cond_wait(&server->changed, &server->lock);
		pthread_mutex_unlock(&server->lock);
		free_listener(listener);
	}
}

/* Sessions give their exports back at their very end, so empty exports mean that all are gone. */
static void end_clients(struct nbd_server *server)
{
	pthread_mutex_lock(&server->lock);
	stop_clients(server, NULL, NBD_STOP_NOW);
	while (!list_empty(&server->clients))
		pthread_cond_wait(&server->changed, &server->lock);
	while (!list_empty(&server->exports)) {
		struct export *export = list_entry(server->exports.next, struct export, entry);

		empty(server, export, true, 0);
		free_export(export);
	}
	pthread_mutex_unlock(&server->lock);
}

void nbd_server_destroy(struct nbd_server *server)
{
	if (!server)
		return;
	stop_listening(server);
	end_clients(server);
	nbd_tls_credentials_free(server->config.credentials);
	pthread_cond_destroy(&server->changed);
	pthread_mutex_destroy(&server->lock);
	free(server->queues);
	free(server);
}
