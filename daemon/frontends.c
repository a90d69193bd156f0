#include "daemon/frontends.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/macros.h"
#include "common/parse.h"
#include "nbd/kernel.h"
#include "ublk/ublk.h"

/* In the order in which "auto" prefers them. */
static const struct frontend_ops *const frontends[] = {
	&ublk_frontend,
	&nbd_frontend,
};

/* Devices beyond are not looked for: both drivers stop far below unless they are told otherwise. */
#define NUMBERS_MAX 1024

const struct frontend_ops *frontend_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++)
		if (strcmp(frontends[i]->name, name) == 0)
			return frontends[i];
	return NULL;
}

const struct frontend_ops *frontend_of_path(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++) {
		size_t length = strlen(frontends[i]->path_prefix);

		if (strncmp(path, frontends[i]->path_prefix, length) == 0 &&
		    frontend_number_of(path) >= 0)
			return frontends[i];
	}
	return NULL;
}

int frontend_number_of(const char *path)
{
	size_t length = strcspn(path, "0123456789");
	unsigned number;

	return parse_unsigned(path + length, 0, INT_MAX, &number) < 0 ? -1 : (int)number;
}

void frontends_visit_orphans(void (*visit)(const char *path, void *data), void *data)
{
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++)
		for (int number = 0; number < NUMBERS_MAX; number++) {
			char path[64];

			if (!frontends[i]->orphan(number))
				continue;
			snprintf(path, sizeof(path), "%s%d", frontends[i]->path_prefix, number);
			visit(path, data);
		}
}

void frontends_discard_unstarted(uint64_t owner)
{
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++)
		if (frontends[i]->discard_unstarted)
			frontends[i]->discard_unstarted(owner);
}

static const struct frontend_ops *choose_by_name(const char *name, struct error *err)
{
	const struct frontend_ops *ops = frontend_named(name);

	if (ops)
		return ops->probe(err) == 0 ? ops : NULL;
	error_set(err, -EOPNOTSUPP, "This urbdd was built without the %s frontend.", name);
	return NULL;
}

static const struct frontend_ops *choose_any(struct error *err)
{
	struct error reason = ERROR_NONE;
	size_t used = 0;
	char text[sizeof(err->text)] = "";

	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++) {
		if (frontends[i]->probe(&reason) == 0)
			return frontends[i];
		if (used < sizeof(text))
			used += (size_t)snprintf(text + used, sizeof(text) - used, " %s: %.200s.",
						 frontends[i]->name, reason.text);
	}
	error_set(err, -ENODEV,
		  "This kernel offers no way to make a block device, but an image can be exported: "
		  "see `urbd help export`.%s",
		  text);
	return NULL;
}

const struct frontend_ops *frontend_choose(const char *name, struct error *err)
{
	return strcmp(name, "auto") == 0 ? choose_any(err) : choose_by_name(name, err);
}

static json_t *frontend_status(const struct frontend_ops *ops)
{
	struct error reason = ERROR_NONE;
	bool available = ops->probe(&reason) == 0;

	return json_pack("{s:b, s:s}", "available", available, "reason", reason.text);
}

json_t *frontends_status(void)
{
	json_t *status = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++)
		json_object_set_new(status, frontends[i]->name, frontend_status(frontends[i]));
	return status;
}
