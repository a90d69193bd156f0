/*
 * An error as a user meets it: an errno and one sentence that says what was wrong and what to do.
 *
 * Functions that can fail for reasons a user can mend take a `struct error *err` (never NULL) and
 * return 0 or a negative errno; on failure they fill @err through error_set(). Secrets never enter
 * a sentence. Plain functions return the negative errno alone.
 */
#pragma once

#include <stddef.h>

#include "common/macros.h"

#define ERROR_TEXT_MAX 480

struct error {
	int code; /* negative errno, 0 when nothing failed */
	char text[ERROR_TEXT_MAX];
};

#define ERROR_NONE ((struct error){ 0 })

/* Fills @err and returns @code (negative errno), so that `return error_set(...)` reads well. */
int error_set(struct error *err, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts words in front of the sentence that @err holds ("mapping rbd/foo: ..."); returns its code.
 */
int error_prefix(struct error *err, const char *fmt, ...) printf_like(2, 3);

/* "ENOENT" for -ENOENT or ENOENT; "EUNKNOWN" where libc has no name. Static storage. */
const char *errno_name(int code);

/* The positive errno of a name such as "ENOSPC"; 0 when there is none. */
int errno_from_name(const char *name);

/* strerror without locale or static buffer; accepts either sign. */
const char *errno_text(int code);
