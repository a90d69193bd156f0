#include "daemon/addresses.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "daemon/queues.h"
#include "daemon/refusals.h"
#include "nbd/budget.h"
#include "nbd/server.h"
#include "nbd/tls.h"

struct addresses {
	struct queues *queues;
	struct export_limits limits;
	struct nbd_budget *budgets; /* a queue each */

	pthread_mutex_t lock; /* for moments */
	pthread_cond_t changed;
	struct list list;
};

static void address_free(struct address *address)
{
	if (!address)
		return;
	nbd_server_destroy(address->server);
	free(address->listen);
	free(address->tls_certificates);
	free(address->tls_keys);
	free(address);
}

static int load_credentials(const struct export_address *wanted, struct nbd_tls_credentials **ret,
			    struct error *err)
{
	*ret = NULL;
	if (wanted->tls_certificates)
		return nbd_tls_credentials_x509(wanted->tls_certificates, ret, err);
	if (wanted->tls_keys)
		return nbd_tls_credentials_psk(wanted->tls_keys, ret, err);
	return 0;
}

static int create_server(struct addresses *addresses, const struct export_address *wanted,
			 struct nbd_server **ret, struct error *err)
{
	struct nbd_server_config config = {
		.queues = addresses->queues->list,
		.nr_queues = addresses->queues->count,
		.max_connections = wanted->max_connections ?: addresses->limits.max_connections,
		.refused = refusals_note,
		.handshake_seconds = addresses->limits.handshake_seconds,
		.max_payload = addresses->limits.max_request,
		.budgets = addresses->budgets,
	};
	int r = load_credentials(wanted, &config.credentials, err);

	if (r < 0)
		return r;
	r = nbd_server_create(&config, ret, err);
	if (r < 0)
		nbd_tls_credentials_free(config.credentials);
	return r;
}

/* With the lock. */
static struct address *find_address(struct addresses *addresses, const char *listen)
{
	list_for_each(entry, &addresses->list) {
		struct address *address = list_entry(entry, struct address, entry);

		if (strcmp(address->listen, listen) == 0)
			return address;
	}
	return NULL;
}

/* What makes it an address of its own never changes, so any user of it may look. */
int address_check(const struct address *address, const struct export_address *wanted,
		  struct error *err)
{
	bool same_tls = text_same(address->tls_certificates, wanted->tls_certificates) &&
			text_same(address->tls_keys, wanted->tls_keys);

	if (same_tls &&
	    (wanted->max_connections == 0 || wanted->max_connections == address->max_connections))
		return 0;
	return error_set(err, -EBUSY,
			 "%s is listened on with other %s already. Give the same ones, or another "
			 "address.",
			 wanted->listen, same_tls ? "--max-connections" : "TLS settings");
}

static struct address *address_new(const struct export_address *wanted)
{
	struct address *address = calloc(1, sizeof(*address));

	if (!address)
		return NULL;
	address->listen = text_copy(wanted->listen);
	address->tls_certificates = text_copy(wanted->tls_certificates);
	address->tls_keys = text_copy(wanted->tls_keys);
	address->max_connections = wanted->max_connections;
	return address;
}

static int serve(struct addresses *addresses, struct address *address,
		 const struct export_address *wanted, struct error *err)
{
	int r = create_server(addresses, wanted, &address->server, err);

	return r < 0 ? r : nbd_server_listen(address->server, wanted->listen, 0, err);
}

/* With the lock, given up meanwhile: ending the server waits for its clients. */
static void close_address(struct addresses *addresses, struct address *address)
{
	address->busy = true;
	pthread_mutex_unlock(&addresses->lock);
	nbd_server_destroy(address->server);
	pthread_mutex_lock(&addresses->lock);
	address->server = NULL;
	list_remove(&address->entry);
	address_free(address);
	pthread_cond_broadcast(&addresses->changed);
}

/* With the lock, given up meanwhile: the name of a host may take long to resolve. */
static int open_address(struct addresses *addresses, const struct export_address *wanted,
			struct address **ret, struct error *err)
{
	struct address *address = address_new(wanted);
	int r;

	if (!address)
		return error_set(err, -ENOMEM, "Out of memory.");
	address->busy = true;
	list_append(&addresses->list, &address->entry);
	pthread_mutex_unlock(&addresses->lock);
	r = serve(addresses, address, wanted, err);
	pthread_mutex_lock(&addresses->lock);
	if (r < 0) {
		close_address(addresses, address);
		return r;
	}
	address->busy = false;
	pthread_cond_broadcast(&addresses->changed);
	*ret = address;
	return 0;
}

/* With the lock. */
static int join_address(struct addresses *addresses, const struct export_address *wanted,
			struct address **ret, struct error *err)
{
	struct address *address;
	int r;

	while ((address = find_address(addresses, wanted->listen)) && address->busy)
		pthread_cond_wait(&addresses->changed, &addresses->lock);
	if (address)
		r = address_check(address, wanted, err);
	else
		r = open_address(addresses, wanted, &address, err);
	if (r < 0)
		return r;
	address->users++;
	*ret = address;
	return 0;
}

int address_get(struct addresses *addresses, const struct export_address *wanted,
		struct address **ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&addresses->lock);
	r = join_address(addresses, wanted, ret, err);
	pthread_mutex_unlock(&addresses->lock);
	return r;
}

void address_put(struct addresses *addresses, struct address *address)
{
	if (!address)
		return;
	pthread_mutex_lock(&addresses->lock);
	if (--address->users == 0)
		close_address(addresses, address);
	pthread_mutex_unlock(&addresses->lock);
}

static struct nbd_budget *create_budgets(const struct queues *queues, uint64_t memory)
{
	struct nbd_budget *budgets = calloc(queues->count, sizeof(*budgets));

	for (unsigned i = 0; budgets && i < queues->count; i++)
		nbd_budget_init(&budgets[i], memory / queues->count);
	return budgets;
}

int addresses_create(struct queues *queues, const struct export_limits *limits,
		     struct addresses **ret, struct error *err)
{
	struct nbd_budget *budgets = create_budgets(queues, limits->memory);
	struct addresses *addresses = calloc(1, sizeof(*addresses));

	if (!addresses || !budgets) {
		free(addresses);
		free(budgets);
		return error_set(err, -ENOMEM, "Out of memory.");
	}
	addresses->queues = queues;
	addresses->limits = *limits;
	addresses->budgets = budgets;
	pthread_mutex_init(&addresses->lock, NULL);
	pthread_cond_init(&addresses->changed, NULL);
	list_init(&addresses->list);
	*ret = addresses;
	return 0;
}

void addresses_destroy(struct addresses *addresses)
{
	if (!addresses)
		return;
	list_for_each_safe(entry, &addresses->list)
		address_free(list_entry(entry, struct address, entry));
	pthread_cond_destroy(&addresses->changed);
	pthread_mutex_destroy(&addresses->lock);
	free(addresses->budgets);
	free(addresses);
}
