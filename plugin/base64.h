/* Base64 as Kubernetes writes a Secret's data: RFC 4648 §4, padded; white space between is skipped.
 */
#pragma once

#include <stddef.h>

#include "common/macros.h"

/*
 * *ret: the bytes and a NUL that *ret_length does not count; they may be a secret: end them with
 * secret_free(). -EINVAL: no base64. -ENOMEM.
 */
int base64_decode(const char *text, char **ret, size_t *ret_length) warn_unused;
