#include "image/rbd-options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_EXPECTED 256 /* of librbd; each look costs questions to the cluster */
#define LIMIT_PREFIX	 "rbd_qos_"

struct options {
	rbd_config_option_t *list;
	int count;
};

/* librbd says how many there are when there is too little room. */
static int read_options(rbd_image_t image, struct options *ret)
{
	struct options options = { .count = OPTIONS_EXPECTED };
	int r;

	do {
		free(options.list);
		options.list = calloc((size_t)options.count, sizeof(*options.list));
		if (!options.list)
			return -ENOMEM;
		r = rbd_config_image_list(image, options.list, &options.count);
	} while (r == -ERANGE);
	if (r < 0)
		free(options.list);
	else
		*ret = options;
	return r;
}

static void free_options(struct options *options)
{
	rbd_config_image_list_cleanup(options->list, options->count);
	free(options->list);
}

static const char *value_of(const struct options *options, const char *key)
{
	for (int i = 0; i < options->count; i++)
		if (strcmp(options->list[i].name, key) == 0)
			return options->list[i].value;
	return "";
}

/* As Ceph reads it: metadata holds what somebody typed. */
static bool is_false(const char *value)
{
	char *end;

	return strcasecmp(value, "false") == 0 ||
	       (strtol(value, &end, 10) == 0 && end != value && !*end);
}

/*
 * librbd answers writes that are not stored when its cache does not write through; to flush what
 * needs none does no harm. Without its copy of a write it never completes one that it refuses
 * before it sends anything.
 */
void rbd_describe_writes(rbd_image_t image, struct image_info *info)
{
	struct options options;

	info->volatile_cache = true;
	if (read_options(image, &options) < 0)
		return;
	info->volatile_cache = !is_false(value_of(&options, "rbd_cache")) &&
			       strcmp(value_of(&options, "rbd_cache_policy"), "writethrough") != 0;
	info->may_hang = is_false(value_of(&options, "rbd_disable_zero_copy_writes"));
	free_options(&options);
}

static bool is_hidden(const rbd_config_option_t *option)
{
	return option->source != RBD_CONFIG_SOURCE_CONFIG &&
	       strncmp(option->name, LIMIT_PREFIX, strlen(LIMIT_PREFIX)) == 0;
}

static int refuse(const rbd_config_option_t *option, const char *path, struct error *err)
{
	const char *owner = option->source == RBD_CONFIG_SOURCE_POOL ? "pool" : "image";

	return error_set(err, -EEXIST,
			 "The metadata of the %s of %s sets %s for all clients, and that goes "
			 "before: 'rbd config %s rm' takes it away.",
			 owner, path, option->name, owner);
}

int rbd_check_limits(rbd_image_t image, const char *path, struct error *err)
{
	struct options options;
	int r = read_options(image, &options);

	if (r < 0)
		return error_set(err, r, "Cannot read the options of %s: %s.", path, errno_text(r));
	for (int i = 0; i < options.count && r >= 0; i++)
		if (is_hidden(&options.list[i]))
			r = refuse(&options.list[i], path, err);
	free_options(&options);
	return r < 0 ? r : 0;
}
