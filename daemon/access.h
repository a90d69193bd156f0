/*
 * What is kept of a map request while its image is open, as JSON: the image's names, and how it was
 * reached, key included. Both are members of a device's record.
 */
#pragma once

#include <jansson.h>

#include "daemon/map_request.h"

/* {type, pool, namespace, image, snapshot}. NULL: out of memory. */
json_t *access_pack_names(const struct image_names *names) warn_unused;

/* Strings are those of @names. */
void access_names(const json_t *names, struct image_names *ret);

/* NULL: out of memory. */
json_t *access_pack(const struct map_request *request) warn_unused;

/* NULL: none. A string of @access. */
const char *access_quiesce_hook(const json_t *access);

/* What it takes to open the image once more; strings are those of @names and @access. */
void access_request(json_t *names, json_t *access, struct map_request *ret);
