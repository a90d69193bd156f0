/* The frontends that this daemon was built with, and the choice among them. */
#pragma once

#include <jansson.h>

#include "core/frontend.h"

/* The frontend called @name, or for "auto" the first that the kernel offers. NULL with @err if
 * none. */
const struct frontend_ops *frontend_choose(const char *name, struct error *err);

/* The one called so, whether the kernel offers it or not; NULL if this daemon has none. */
const struct frontend_ops *frontend_named(const char *name);

/* The one whose devices are called like @path, and the N of it; NULL and -1 for other paths. */
const struct frontend_ops *frontend_of_path(const char *path);
int frontend_number_of(const char *path);

/* Calls visit(path, data) for each device of the kernel that a dead server left. */
void frontends_visit_orphans(void (*visit)(const char *path, void *data), void *data);

/* Removes what a dead daemon whose devices bear @owner had only begun to make. */
void frontends_discard_unstarted(uint64_t owner);

/* A new object: for each frontend {available, reason}. */
json_t *frontends_status(void);
