/*
 * A client: one connection to a cluster (librados), which any number of images share.
 *
 * Counted by references. Any thread but a queue's or librados' own; connecting and the last unref
 * block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define RBD_CLIENT_TIMEOUT_DEFAULT 30 /* seconds */

struct rbd_client_option {
	const char *key, *value;
};

/* All strings are the caller's, and only read. NULL means "not given". */
struct rbd_client_config {
	const char *monitors; /* comma-joined addresses; NULL: from the configuration file */
	const char *user;     /* without "client."; NULL: admin */
	const char *key;      /* the secret itself, base64; goes before keyring */
	const char *keyring;  /* path of a keyring file */
	const char *conf;     /* path; NULL: /etc/ceph/ceph.conf where that exists; "": none */
	const struct rbd_client_option *options; /* any of librados' and librbd's, checked */
	size_t nr_options;
	unsigned timeout; /* seconds that connecting may take; 0: the default */
};

struct rbd_client;

/* 0, or a negative errno with a sentence; the key is in neither it nor any log. */
int rbd_client_connect(const struct rbd_client_config *config, struct rbd_client **ret,
		       struct error *err);

struct rbd_client *rbd_client_ref(struct rbd_client *client);

/* The last one disconnects. NULL is allowed; returns NULL. */
struct rbd_client *rbd_client_unref(struct rbd_client *client);

/*
 * Checks a user's options without a cluster: each must be known to librados and take its value, and
 * none may be one that urbd sets itself (keys, logs, sockets). 0, or -EINVAL with a sentence that
 * names the option.
 */
int rbd_client_check_options(const struct rbd_client_option *options, size_t nr_options,
			     struct error *err);

/* Static for the life of the client. */
const char *rbd_client_fsid(const struct rbd_client *client);	 /* the cluster's id */
const char *rbd_client_user(const struct rbd_client *client);	 /* "client.admin" */
const char *rbd_client_address(const struct rbd_client *client); /* as a blocklist names it; "" if
								    unknown */
