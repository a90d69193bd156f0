/* The inside of a client, for image/rbd alone. */
#pragma once

#include <rados/librados.h>

#include "image/client.h"

/* The client's as long as the caller holds a reference. */
rados_t rbd_client_cluster(const struct rbd_client *client);
