/*
 * Keys on their way: read from a file, kept in memory only as long as needed, wiped before the
 * memory is given back.
 */
#pragma once

#include "common/cleanup.h"
#include "common/error.h"

#define SECRET_MAX 1024 /* bytes; a cephx key has 40 */

/*
 * The key in a file that holds nothing else, without the white space around it. Pipes and
 * /dev/stdin will do. *ret: malloc'ed, for secret_free(). Failures: the errno of open and read;
 * -EINVAL: empty, a keyring rather than a key, or no printable text; -EFBIG: longer than
 * SECRET_MAX.
 */
int secret_read_file(const char *path, char **ret, struct error *err) warn_unused;

/* Copies @text without the white space around it, as keys come out of YAML and files; checks it as
 * secret_read_file() does. @what names it in the sentence ("the Secret's key"). */
int secret_trim(const char *text, size_t length, const char *what, char **ret,
		struct error *err) warn_unused;

/* Wipes the string and frees it. NULL is allowed. */
void secret_free(char *secret);

/*
 * From now on jansson wipes all memory that it frees, in the whole process, so that no key survives
 * in a freed string or parse buffer. Call once, before the first use of jansson and before threads.
 */
void secrets_guard_json(void);

static inline void cleanup_secret_fn(char **secret)
{
	secret_free(*secret);
}

#define cleanup_secret cleanup(cleanup_secret_fn)
