/*
 * The methods of the control protocol with their members, as tables: urbdd checks by them what it
 * is asked, the command line takes ranges from them, and docs/control-protocol.md is printed from
 * them. Read-only data; any thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

#define CONTROL_CLIENTS_DEFAULT 4  /* connections that "client" shares where nothing is said */
#define CONTROL_CLIENTS_MAX	64 /* N of "pool:N" */

enum control_kind {
	CONTROL_STRING,	 /* min..max bytes */
	CONTROL_NAME,	 /* a string without '/' and '@': pool, namespace, image, snapshot */
	CONTROL_PATH,	 /* an absolute path */
	CONTROL_CHOICE,	 /* one of the words in choices */
	CONTROL_INTEGER, /* min..max */
	CONTROL_BOOLEAN,
	CONTROL_OPTIONS, /* an object of strings */
	CONTROL_OBJECT,	 /* results only */
	CONTROL_ARRAY,	 /* results only */
};

struct control_member {
	const char *name;
	enum control_kind kind;
	bool required;
	bool secret; /* never in a log, an error, argv or a file that others can read */
	int64_t min, max;
	const char *choices;  /* "a|b|c" */
	const char *fallback; /* what an absent member means, in words; NULL: nothing to say */
	const char *doc;
};

#define CONTROL_GROUPS_MAX 4

struct control_method {
	const char *name;
	const char *doc;
	/* Groups of members, up to the first NULL; each ends with a member without a name. */
	const struct control_member *params[CONTROL_GROUPS_MAX];
	const struct control_member *results[CONTROL_GROUPS_MAX];
	const char *errors; /* the errnos that callers may want to tell apart */
	/* What no single member shows; NULL: nothing. @params has passed the table. */
	int (*check)(json_t *params, struct error *err);
};

/* All methods; ends with one without a name. */
extern const struct control_method control_methods[];

/* NULL when there is none of that name. */
const struct control_method *control_method_find(const char *name);

/* The member of a method's params, or NULL. */
const struct control_member *control_param_find(const char *method, const char *name);

/*
 * Types, ranges, unknown members, required ones, and what must go together. @params may be NULL
 * (none given). 0; -ENOSYS: no such method (answer with CONTROL_NO_SUCH_METHOD); -EINVAL: bad
 * params (CONTROL_INVALID_PARAMS). The sentence names the member and says what it must be, and
 * never repeats a secret.
 */
int control_check_params(const char *method, json_t *params, struct error *err) warn_unused;

/* The reference of all methods, as Markdown. */
void control_schema_print(FILE *out);
