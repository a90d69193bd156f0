/*
 * The control protocol's messages: JSON-RPC 2.0 (https://www.jsonrpc.org/specification), one
 * message a line, no batches. Both sides use this: urbdd, and every program that calls it.
 *
 * Input is bounded before it is parsed: a line has a largest length, and its nesting a largest
 * depth. Any thread; an object is used by one thread at a time.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

#define CONTROL_REQUEST_MAX (64u * 1024)       /* bytes of a line to urbdd, without its newline */
#define CONTROL_ANSWER_MAX  (4u * 1024 * 1024) /* bytes of a line from urbdd, likewise */
#define CONTROL_DEPTH_MAX   8		       /* objects and arrays within each other */

/* Error codes: the first four are JSON-RPC's own. */
enum control_code {
	CONTROL_PARSE_ERROR = -32700,
	CONTROL_INVALID_REQUEST = -32600,
	CONTROL_NO_SUCH_METHOD = -32601,
	CONTROL_INVALID_PARAMS = -32602,
	CONTROL_FAILED = -32000, /* the operation failed; data.errno names why */
};

/* --- Lines ------------------------------------------------------------------------------------ */

/*
 * Cuts what a descriptor brings into lines. Grows as needed up to its bound, and wipes what it lets
 * go of, because a line may hold a key.
 */
struct line_reader {
	char *buffer;
	size_t capacity; /* bytes of buffer */
	size_t max;	 /* longest line, bytes */
	size_t start;	 /* the first byte that was not handed out */
	size_t scanned;	 /* bytes before this hold no newline (>= start) */
	size_t end;	 /* one past the last byte read */
};

#define LINE_READER(max_) ((struct line_reader){ .max = (max_) })

void line_reader_deinit(struct line_reader *reader);

/*
 * One read(2) from @fd, blocking or not. Returns the bytes read; 0 at the end of the stream;
 * -EAGAIN, -EINTR or another negative errno of read; -ENOMEM. Call it only after
 * line_reader_next() returned 0.
 */
ssize_t line_reader_fill(struct line_reader *reader, int fd) warn_unused;

/*
 * Takes the next line out of what was read. 1: *ret_line is its text without the newline, followed
 * by a NUL, valid until the next call; it may hold NUL bytes of its own, hence the length. 0: no
 * whole line yet. -EMSGSIZE: the line is longer than the bound; the stream cannot go on.
 */
int line_reader_next(struct line_reader *reader, char **ret_line, size_t *ret_length) warn_unused;

/* Whether a line was begun and not ended: what an end of the stream here has cut off. */
bool line_reader_pending(const struct line_reader *reader);

/* --- Parsing ---------------------------------------------------------------------------------- */

enum control_type {
	CONTROL_MALFORMED, /* no message; code and error hold what to answer */
	CONTROL_REQUEST,
	CONTROL_NOTIFICATION,
	CONTROL_RESULT,
	CONTROL_ERROR, /* code and error hold what the other side said */
};

struct control_message {
	enum control_type type;
	json_t *root; /* the only reference; the members below are borrowed from it */
	json_t *id;   /* string, integer or (malformed, error) null; NULL for a notification */
	const char *method; /* request, notification */
	json_t *params;	    /* likewise: an object, or NULL where there was none */
	json_t *result;	    /* result */
	int code;	    /* malformed, error: an enum control_code */
	struct error error; /* malformed, error: never with text of the message itself */
};

/*
 * Never fails: what is no message becomes CONTROL_MALFORMED, ready to be answered with
 * control_error(message->id, message->code, &message->error). End with control_message_deinit().
 */
void control_parse(const char *line, size_t length, struct control_message *ret);

void control_message_deinit(struct control_message *message);

/* Whether no more than @max objects and arrays stand within each other. Needs no valid JSON. */
bool control_depth_ok(const char *text, size_t length, unsigned max);

/* --- Building --------------------------------------------------------------------------------- */

/*
 * Each returns a new message, or NULL without memory. @params and @result are taken over, also on
 * failure, and may be NULL (then {}); @id is borrowed, NULL stands for null.
 */
json_t *control_request(json_int_t id, const char *method, json_t *params);
json_t *control_notification(const char *method, json_t *params);
json_t *control_result(json_t *id, json_t *result);
json_t *control_error(json_t *id, int code, const struct error *err);

/* The notification that tells the caller of request @id how far it has come. */
json_t *control_progress(json_t *id, const char *text);

/*
 * The message as a line with its newline, which stands before the closing NUL. *ret_length counts
 * the newline. The caller frees it with secret_free() where the message may hold a key, else with
 * free(). NULL without memory. @message stays the caller's.
 */
char *control_encode(json_t *message, size_t *ret_length);
