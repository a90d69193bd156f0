#include "daemon/client_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/list.h"
#include "common/parse.h"
#include "common/deadline.h"

/* One connection, from the attempt to make it to the attempt to end it. */
struct pooled_client {
	struct list entry;		 /* of pool.clients, or of pool.leaving */
	struct rbd_client_config config; /* our own copy, options sorted by key */
	bool isolated, retired;		 /* nobody else gets it */
	bool connecting;		 /* its maker works on it without the lock */
	int result;			 /* of connecting; negative: error says why */
	struct error error;
	struct rbd_client *rbd;
	unsigned users; /* images, and callers that wait for it; 0: about to go */
};

struct client_pool {
	pthread_mutex_t lock; /* guards all below, clients included */
	pthread_cond_t changed;
	struct list clients;
	struct list leaving; /* to be disconnected */
	pthread_t thread;    /* which disconnects */
	bool has_thread, stop;
};

/* Policies. */

int client_policy_parse(const char *text, struct client_policy *ret, struct error *err)
{
	unsigned max;

	if (!text || !*text) {
		*ret = CLIENT_POLICY_DEFAULT;
		return 0;
	}
	if (strcmp(text, "isolated") == 0) {
		*ret = (struct client_policy){ .isolated = true, .max = 1 };
		return 0;
	}
	if (strcmp(text, "shared") == 0) {
		*ret = (struct client_policy){ .max = 1 };
		return 0;
	}
	if (strncmp(text, "pool:", 5) || parse_unsigned(text + 5, 1, CONTROL_CLIENTS_MAX, &max) < 0)
		return error_set(err, -EINVAL,
				 "'%s' is no way to share clients: use shared, isolated, or "
				 "pool:N with N from 1 to %d.",
				 text, CONTROL_CLIENTS_MAX);
	*ret = (struct client_policy){ .max = max };
	return 0;
}

/* Copies of configurations. */

static void forget_secret(const char *secret)
{
	if (secret)
		explicit_bzero((char *)secret, strlen(secret));
	free((char *)secret);
}

static void config_free(struct rbd_client_config *config)
{
	for (size_t i = 0; config->options && i < config->nr_options; i++) {
		free((char *)config->options[i].key);
		free((char *)config->options[i].value);
	}
	free((struct rbd_client_option *)config->options);
	free((char *)config->monitors);
	free((char *)config->user);
	free((char *)config->keyring);
	free((char *)config->conf);
	forget_secret(config->key);
	*config = (struct rbd_client_config){ 0 };
}

static bool copy_text(const char *text, const char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return *ret || !text;
}

static int by_key(const void *a, const void *b)
{
	const struct rbd_client_option *left = a, *right = b;

	return strcmp(left->key, right->key);
}

static bool copy_options(const struct rbd_client_config *from, struct rbd_client_config *to)
{
	struct rbd_client_option *options = calloc(from->nr_options + 1, sizeof(*options));
	bool complete = true;

	if (!options)
		return false;
	to->options = options;
	to->nr_options = from->nr_options;
	for (size_t i = 0; i < from->nr_options; i++)
		complete = copy_text(from->options[i].key, &options[i].key) &&
			   copy_text(from->options[i].value, &options[i].value) && complete;
	if (complete)
		qsort(options, to->nr_options, sizeof(*options), by_key);
	return complete;
}

static int config_copy(const struct rbd_client_config *from, struct rbd_client_config *ret)
{
	struct rbd_client_config to = { .timeout = from->timeout };

	if (copy_options(from, &to) && copy_text(from->monitors, &to.monitors) &&
	    copy_text(from->user, &to.user) && copy_text(from->key, &to.key) &&
	    copy_text(from->keyring, &to.keyring) && copy_text(from->conf, &to.conf)) {
		*ret = to;
		return 0;
	}
	config_free(&to);
	return -ENOMEM;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* The same connection would come of both; the timeout says nothing on that. */
static bool same_config(const struct rbd_client_config *a, const struct rbd_client_config *b)
{
	if (!same_text(a->monitors, b->monitors) || !same_text(a->user, b->user) ||
	    !same_text(a->key, b->key) || !same_text(a->keyring, b->keyring) ||
	    !same_text(a->conf, b->conf) || a->nr_options != b->nr_options)
		return false;
	for (size_t i = 0; i < a->nr_options; i++)
		if (!same_text(a->options[i].key, b->options[i].key) ||
		    !same_text(a->options[i].value, b->options[i].value))
			return false;
	return true;
}

/* Pooled clients. All with the lock held, but for those that say otherwise. */

static struct pooled_client *pooled_of(struct list *entry)
{
	return list_entry(entry, struct pooled_client, entry);
}

static void pooled_free(struct pooled_client *client)
{
	config_free(&client->config);
	free(client);
}

/*
 * The least loaded one of @config, or NULL where another connection may be made. One that is made
 * before any is shared keeps images out of each other's way: a small request waits behind all that
 * is under way in its socket, and storage shares its time out by connection.
 */
static struct pooled_client *choose(struct client_pool *pool,
				    const struct rbd_client_config *config,
				    struct client_policy policy)
{
	struct pooled_client *best = NULL;
	unsigned count = 0;

	if (policy.isolated)
		return NULL;
	list_for_each(entry, &pool->clients) {
		struct pooled_client *client = pooled_of(entry);

		if (client->isolated || client->retired || !same_config(&client->config, config))
			continue;
		count++;
		if (!best || client->users < best->users)
			best = client;
	}
	return count < policy.max ? NULL : best;
}

/* Without the lock: the pool's thread, which alone disconnects. */
static void *disconnect_main(void *data)
{
	struct client_pool *pool = data;

	pthread_mutex_lock(&pool->lock);
	while (!pool->stop || !list_empty(&pool->leaving)) {
		struct pooled_client *client;

		if (list_empty(&pool->leaving)) {
			pthread_cond_wait(&pool->changed, &pool->lock);
			continue;
		}
		client = pooled_of(pool->leaving.next);
		list_remove(&client->entry);
		pthread_mutex_unlock(&pool->lock);
		rbd_client_unref(client->rbd);
		pooled_free(client);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void drop(struct client_pool *pool, struct pooled_client *client)
{
	if (--client->users > 0)
		return;
	list_remove(&client->entry);
	if (!client->rbd) {
		pooled_free(client);
		return;
	}
	list_append(&pool->leaving, &client->entry);
	pthread_cond_broadcast(&pool->changed);
}

/* False when @client is still connecting after @seconds. */
static bool wait_result(struct client_pool *pool, const struct pooled_client *client,
			unsigned seconds)
{
	struct timespec deadline = deadline_in(seconds);

	while (client->connecting)
		if (pthread_cond_timedwait(&pool->changed, &pool->lock, &deadline) == ETIMEDOUT)
			return !client->connecting;
	return true;
}

/*
 * Somebody else connects, with a timeout of his own that may be longer than @timeout. The second
 * more is what connecting has, too, so that callers at once get its error and not this one.
 */
static int wait_connected(struct client_pool *pool, struct pooled_client *client, unsigned timeout,
			  struct pooled_client **ret, struct error *err)
{
	int r;

	timeout = timeout ?: RBD_CLIENT_TIMEOUT_DEFAULT;
	client->users++;
	if (!wait_result(pool, client, timeout + 1)) {
		drop(pool, client);
		return error_set(err, -ETIMEDOUT,
				 "Connecting to the cluster took more than %u seconds: check the "
				 "monitors' addresses and the network.",
				 timeout);
	}
	r = client->result;
	if (r < 0) {
		*err = client->error;
		drop(pool, client);
		return r;
	}
	*ret = client;
	return 0;
}

/* Lets go of the lock while it connects. Takes the contents of @config over. */
static int connect_new(struct client_pool *pool, struct rbd_client_config *config, bool isolated,
		       struct pooled_client **ret, struct error *err)
{
	struct pooled_client *client = calloc(1, sizeof(*client));
	struct rbd_client *rbd = NULL;
	int r;

	if (!client)
		return error_set(err, -ENOMEM, "Out of memory.");
	client->config = *config;
	*config = (struct rbd_client_config){ 0 };
	client->isolated = isolated;
	client->connecting = true;
	client->users = 1;
	list_append(&pool->clients, &client->entry);
	pthread_mutex_unlock(&pool->lock);
	r = rbd_client_connect(&client->config, &rbd, &client->error);
	pthread_mutex_lock(&pool->lock);
	client->result = r;
	client->rbd = rbd;
	client->connecting = false;
	pthread_cond_broadcast(&pool->changed);
	if (r < 0) {
		/* Who waited takes the error along; who comes later tries anew. */
		client->retired = true;
		*err = client->error;
		drop(pool, client);
		return r;
	}
	*ret = client;
	return 0;
}

/* The pool. */

int client_pool_create(struct client_pool **ret, struct error *err)
{
	struct client_pool *pool = calloc(1, sizeof(*pool));
	pthread_condattr_t monotonic;
	int r;

	if (!pool)
		return error_set(err, -ENOMEM, "Out of memory.");
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	list_init(&pool->clients);
	list_init(&pool->leaving);
	r = -pthread_create(&pool->thread, NULL, disconnect_main, pool);
	pool->has_thread = r == 0;
	if (r < 0) {
		client_pool_destroy(pool);
		return error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	}
	pthread_setname_np(pool->thread, "urbd-clients");
	*ret = pool;
	return 0;
}

void client_pool_destroy(struct client_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	if (pool->has_thread)
		pthread_join(pool->thread, NULL);
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

int client_pool_get(struct client_pool *pool, const char *policy_text,
		    const struct rbd_client_config *config, struct pooled_client **ret,
		    struct error *err)
{
	struct rbd_client_config copy;
	struct client_policy policy;
	struct pooled_client *client;
	int r;

	r = client_policy_parse(policy_text, &policy, err);
	if (r < 0)
		return r;
	r = config_copy(config, &copy);
	if (r < 0)
		return error_set(err, r, "Out of memory.");
	pthread_mutex_lock(&pool->lock);
	client = choose(pool, &copy, policy);
	if (client)
		r = wait_connected(pool, client, config->timeout, ret, err);
	else
		r = connect_new(pool, &copy, policy.isolated, ret, err);
	pthread_mutex_unlock(&pool->lock);
	config_free(&copy);
	return r;
}

struct rbd_client *pooled_client_rbd(struct pooled_client *client)
{
	return client->rbd;
}

void client_pool_put(struct client_pool *pool, struct pooled_client *client)
{
	if (!client)
		return;
	pthread_mutex_lock(&pool->lock);
	drop(pool, client);
	pthread_mutex_unlock(&pool->lock);
}

void client_pool_retire(struct client_pool *pool, struct pooled_client *client)
{
	pthread_mutex_lock(&pool->lock);
	client->retired = true;
	pthread_mutex_unlock(&pool->lock);
}
