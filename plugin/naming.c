#include "plugin/naming.h"

#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t fnv1a(const char *text, uint64_t hash)
{
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return hash;
}

void naming_digest(const char *text, char ret[NAMING_DIGITS + 1])
{
	uint64_t first = fnv1a(text, UINT64_C(0xcbf29ce484222325));
	uint64_t second = fnv1a(text, first ^ UINT64_C(0x9e3779b97f4a7c15));

	snprintf(ret, NAMING_DIGITS + 1, "%016llx%016llx", (unsigned long long)first,
		 (unsigned long long)second);
}

char *naming_uuid(const char *text)
{
	char digest[NAMING_DIGITS + 1], *uuid;

	naming_digest(text, digest);
	if (asprintf(&uuid, "%.8s-%.4s-8%.3s-8%.3s-%.12s", digest, digest + 8, digest + 12,
		     digest + 15, digest + 18) < 0)
		return NULL;
	return uuid;
}

/* Takes "." , ".." and repeated slashes out of an absolute path, in place. */
static void normalise(char *path)
{
	char *out = path, *part, *rest = path;

	while ((part = strsep(&rest, "/")) != NULL) {
		size_t length = strlen(part);

		if (length == 0 || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			while (out > path && *--out != '/')
				;
			continue;
		}
		*out++ = '/';
		memmove(out, part, length);
		out += length;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

static char *make_absolute(const char *path)
{
	cleanup_free char *here = NULL;
	char *joined;

	if (path[0] == '/')
		return strdup(path);
	here = realpath(".", NULL);
	if (!here || asprintf(&joined, "%s/%s", here, path) < 0)
		return NULL;
	return joined;
}

/* realpath of @parent where it exists, else of its parent with the rest appended, and so on. */
static char *resolve_parent(const char *parent)
{
	cleanup_free char *above_of = NULL, *name_of = NULL, *above = NULL;
	char *joined;

	joined = realpath(parent, NULL);
	if (joined || strcmp(parent, "/") == 0)
		return joined ? joined : strdup("/");
	above_of = strdup(parent);
	name_of = strdup(parent);
	if (!above_of || !name_of)
		return NULL;
	above = resolve_parent(dirname(above_of));
	if (!above ||
	    asprintf(&joined, "%s%s%s", above, above[1] ? "/" : "", basename(name_of)) < 0)
		return NULL;
	return joined;
}

char *naming_canonical(const char *path)
{
	cleanup_free char *absolute = make_absolute(path), *parent = NULL;
	char *joined, *last;

	if (!absolute)
		return NULL;
	normalise(absolute);
	last = strrchr(absolute, '/');
	if (last == absolute)
		return take_ptr(absolute);
	*last = '\0';
	parent = resolve_parent(absolute);
	if (!parent || asprintf(&joined, "%s%s%s", parent, parent[1] ? "/" : "", last + 1) < 0)
		return NULL;
	return joined;
}
