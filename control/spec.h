/*
 * What a user writes for an image, and the members of `map` and `unmap` that it stands for:
 *
 *   [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]   rbd; the grammar of rbd(8)
 *   file:PATH                             a file or block device; PATH is made absolute
 *   null:SIZE                             SIZE with an optional suffix: 512, 10M, 1GiB
 *
 * An rbd image whose name begins with "file:" or "null:" is written with its pool.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"

/*
 * *ret: a new object with "type" and only those members that @text gives: pool, namespace, image,
 * snapshot | path | size. -EINVAL: the sentence shows how it is written. -ENOMEM.
 */
int spec_parse(const char *text, json_t **ret, struct error *err) warn_unused;

/*
 * The spec of a device as `list` tells it, or of params. An absent type means rbd, an absent pool
 * "rbd"; empty members count as absent. A file's path may stand in "path" or "image", a null's size
 * in "size" (integer) or "image". malloc'ed; NULL without memory.
 */
char *spec_format(json_t *object);

/*
 * @path with the working directory before it where it is relative, and the links of its directory
 * resolved where that exists, so that one file has one name from wherever it is named. The file
 * need not exist. malloc'ed; NULL without memory or working directory.
 */
char *path_absolute(const char *path);
