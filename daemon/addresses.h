/*
 * The addresses that exports are served at, each with an NBD server of its own. One is listened on
 * while it has users. All functions may be called on any thread but a queue's, and may block.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/list.h"

struct addresses;
struct nbd_server;
struct queues;

/* What all clients of exports are held to. */
struct export_limits {
	unsigned max_connections;   /* at an address that sets none itself */
	unsigned handshake_seconds; /* in which a client has to choose an export */
	unsigned max_request;	    /* bytes of one read or write */
	uint64_t memory; /* bytes of buffers for all clients, beside NBD_BUDGET_SURE for each;
			    at least max_request for each queue */
};

/* How an address is served. Strings are copied. */
struct export_address {
	const char *listen;	      /* NULL: the first one of start-up */
	const char *tls_certificates; /* a folder; at most one of the two; NULL: no TLS */
	const char *tls_keys;	      /* a file */
	unsigned max_connections;     /* 0: as the limits say */
};

/* An address in use. What is not the addresses' own never changes, so any user of it may look. */
struct address {
	char *listen, *tls_certificates, *tls_keys;
	unsigned max_connections; /* as it was asked for */
	struct nbd_server *server;

	/* The addresses' own. */
	struct list entry;
	unsigned users;
	bool busy; /* being opened or closed, without the lock */
};

int addresses_create(struct queues *queues, const struct export_limits *limits,
		     struct addresses **ret, struct error *err) warn_unused;

/* No export is left. NULL is allowed. */
void addresses_destroy(struct addresses *addresses);

/* Opens it, or finds it open with the same settings; -EBUSY with others. Be sure to put it. */
int address_get(struct addresses *addresses, const struct export_address *wanted,
		struct address **ret, struct error *err) warn_unused;

/* Closes it behind its last user, whose export is gone from its server. NULL is allowed. */
void address_put(struct addresses *addresses, struct address *address);

/* 0 when @address is what @wanted asks for, or -EBUSY. */
int address_check(const struct address *address, const struct export_address *wanted,
		  struct error *err) warn_unused;
