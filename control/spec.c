#include "control/spec.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"

#define NULL_SIZE_MIN 512 /* a block */

#define HOW_TO_WRITE "write [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT], file:PATH or null:SIZE."

/* --- Paths ------------------------------------------------------------------------------------ */

static char *join(const char *directory, const char *name)
{
	char *path;

	if (strcmp(directory, "/") == 0)
		directory = "";
	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* The working directory before a relative path. */
static char *anchored(const char *path)
{
	cleanup_free char *cwd = NULL;

	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	return cwd ? join(cwd, path) : NULL;
}

char *path_absolute(const char *path)
{
	cleanup_free char *whole = anchored(path), *directory = NULL;
	char *slash = whole ? strrchr(whole, '/') : NULL;

	if (!slash)
		return NULL;
	if (strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
		return take_ptr(whole); /* a directory, which will be refused by this name */
	*slash = '\0';
	directory = realpath(*whole ? whole : "/", NULL);
	if (directory)
		return join(directory, slash + 1);
	*slash = '/';
	return take_ptr(whole);
}

/* --- Parsing ---------------------------------------------------------------------------------- */

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "Out of memory.");
}

static int answer(json_t *object, json_t **ret, struct error *err)
{
	if (!object)
		return error_set(err, -EINVAL,
				 "The image's name is not valid UTF-8; " HOW_TO_WRITE);
	*ret = object;
	return 0;
}

static int parse_file(const char *path, json_t **ret, struct error *err)
{
	cleanup_free char *absolute = NULL;

	if (!*path)
		return error_set(err, -EINVAL, "file: names no file; write file:PATH.");
	/* Links lead to the file, so that it has one name however it is written. */
	absolute = realpath(path, NULL);
	if (!absolute)
		absolute = path_absolute(path);
	if (!absolute)
		return no_memory(err);
	return answer(json_pack("{ss ss}", "type", "file", "path", absolute), ret, err);
}

static int parse_null(const char *text, json_t **ret, struct error *err)
{
	uint64_t size;

	if (parse_size(text, &size) < 0 || size == 0 || size > INT64_MAX)
		return error_set(err, -EINVAL,
				 "null:%s has no size; write null:SIZE, for example null:1G.",
				 text);
	if (size < NULL_SIZE_MIN)
		return error_set(err, -EINVAL,
				 "null:%s is too small: it takes %d bytes at least, as in null:1G.",
				 text, NULL_SIZE_MIN);
	return answer(json_pack("{ss sI}", "type", "null", "size", (json_int_t)size), ret, err);
}

/* Cuts @text at its first @separator; what follows that, or NULL. */
static char *cut(char *text, char separator)
{
	char *at = strchr(text, separator);

	if (at)
		*at++ = '\0';
	return at;
}

/* An empty part (as in "pool/" or "image@") is no name; an absent one is NULL. */
static bool part_ok(const char *part, const char *forbidden)
{
	return !part || (*part && !strpbrk(part, forbidden));
}

static int parse_rbd(const char *text, json_t **ret, struct error *err)
{
	cleanup_free char *copy = strdup(text);
	char *pool = NULL, *namespace = NULL, *image = copy, *snapshot, *rest;

	if (!copy)
		return no_memory(err);
	rest = cut(image, '/');
	if (rest) {
		pool = image;
		image = rest;
		rest = cut(image, '/');
	}
	if (rest) {
		namespace = image;
		image = rest;
	}
	snapshot = cut(image, '@');
	if (!part_ok(pool, "@") || !part_ok(namespace, "@") || !part_ok(image, "/") ||
	    !part_ok(snapshot, "/@"))
		return error_set(err, -EINVAL, "\"%.200s\" names no image; " HOW_TO_WRITE, text);
	return answer(json_pack("{ss ss* ss* ss ss*}", "type", "rbd", "pool", pool, "namespace",
				namespace, "image", image, "snapshot", snapshot),
		      ret, err);
}

int spec_parse(const char *text, json_t **ret, struct error *err)
{
	if (strncmp(text, "file:", 5) == 0)
		return parse_file(text + 5, ret, err);
	if (strncmp(text, "null:", 5) == 0)
		return parse_null(text + 5, ret, err);
	return parse_rbd(text, ret, err);
}

/* --- Formatting ------------------------------------------------------------------------------- */

static const char *member(json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

static char *format_rbd(json_t *object)
{
	const char *pool = member(object, "pool"), *namespace = member(object, "namespace");
	const char *snapshot = member(object, "snapshot");
	char *text;
	int n;

	n = asprintf(&text, "%s/%s%s%s%s%s", *pool ? pool : "rbd", namespace, *namespace ? "/" : "",
		     member(object, "image"), *snapshot ? "@" : "", snapshot);
	return n < 0 ? NULL : text;
}

static char *format_file(json_t *object)
{
	const char *path = member(object, "path");
	char *text;

	if (!*path)
		path = member(object, "image");
	return asprintf(&text, "file:%s", path) < 0 ? NULL : text;
}

static char *format_null(json_t *object)
{
	json_t *size = json_object_get(object, "size");
	char *text;
	int n;

	if (json_is_integer(size))
		n = asprintf(&text, "null:%" JSON_INTEGER_FORMAT, json_integer_value(size));
	else
		n = asprintf(&text, "null%s%s", *member(object, "image") ? ":" : "",
			     member(object, "image"));
	return n < 0 ? NULL : text;
}

char *spec_format(json_t *object)
{
	const char *type = member(object, "type");

	if (strcmp(type, "file") == 0)
		return format_file(object);
	if (strcmp(type, "null") == 0)
		return format_null(object);
	return format_rbd(object);
}
