/*
 * Addresses that an NBD server listens on: "unix:PATH", "HOST:PORT", "[ADDRESS]:PORT".
 * Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define NBD_ADDRESS_MAX 512

/*
 * A listening socket at @address. A unix socket gets @mode, and takes the place of one that nobody
 * listens on any more. TCP needs a host, so that nothing is open to the world by mistake. The
 * address as it was bound (a free port for port 0) goes to @bound. Blocks for name resolution, and
 * two seconds for whoever has the address to let it go. 0, or a negative errno with a sentence; the
 * descriptor is the caller's.
 */
int nbd_address_listen(const char *address, unsigned mode, int *ret_fd, char bound[NBD_ADDRESS_MAX],
		       struct error *err);

/* The socket's file for a unix address, which is a part of @bound; else NULL. */
const char *nbd_address_path(const char *bound);

/* The NBD URI (doc/uri.md of the protocol's repository) of the export @name. False: no room. */
bool nbd_address_uri(const char *bound, bool tls, const char *name, char *uri, size_t size);

/* Whether two URIs are the same, however much of them is escaped: clients escape less than we. */
bool nbd_address_uri_same(const char *uri, const char *other);
