#include "plugin/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "plugin/naming.h"

#define SHORT_DIGEST 16
#define FLEX_DEPTH   5 /* components that follow K in a target */

/* asprintf with a bound on the path and its last component. */
static int format_path(char **ret, struct error *err, const char *fmt, ...) printf_like(3, 4);
static int format_path(char **ret, struct error *err, const char *fmt, ...)
{
	cleanup_free char *path = NULL;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&path, fmt, args);
	va_end(args);
	if (n < 0) {
		path = NULL;
		return error_set(err, -ENOMEM, "out of memory");
	}
	if (n >= PATH_MAX || strlen(strrchr(path, '/') + 1) > NAME_MAX)
		return error_set(err, -ENAMETOOLONG, "the path %.64s... is too long", path);
	*ret = take_ptr(path);
	return 0;
}

/* --- FlexVolume ---------------------------------------------------------------------------------
 */

static int refuse_target(const char *target, struct error *err)
{
	return error_set(err, -EINVAL,
			 "%s is no volume's directory; it must be "
			 "KUBELET-ROOT/pods/UID/volumes/VENDOR~DRIVER/NAME",
			 target);
}

/* Cuts the last components off @path; parts[0] is the last one. */
static int cut_components(char *path, char *parts[FLEX_DEPTH])
{
	for (int i = 0; i < FLEX_DEPTH; i++) {
		char *slash = strrchr(path, '/');

		if (!slash)
			return -EINVAL;
		parts[i] = slash + 1;
		*slash = '\0';
	}
	return 0;
}

int path_flex_global(const char *target, const struct volume_spec *spec, char **ret,
		     struct error *err)
{
	cleanup_free char *root = naming_canonical(target), *identity = volume_spec_identity(spec);
	char digest[NAMING_DIGITS + 1], *parts[FLEX_DEPTH], *driver;

	if (!root || !identity)
		return error_set(err, -ENOMEM, "out of memory");
	if (cut_components(root, parts) < 0 || strcmp(parts[2], "volumes") != 0 ||
	    strcmp(parts[4], "pods") != 0)
		return refuse_target(target, err);
	driver = strchr(parts[1], '~');
	if (!driver || driver == parts[1] || !driver[1])
		return refuse_target(target, err);
	*driver++ = '\0';
	naming_digest(identity, digest);
	return format_path(
		ret, err,
		"%s/plugins/kubernetes.io/flexvolume/%s/%s/mounts/%.100s-image-%.100s-%.*s", root,
		parts[1], driver, spec->pool, spec->image, SHORT_DIGEST, digest);
}

/* --- The in-tree plugin -------------------------------------------------------------------------
 */

int path_rbd_global(const char *root, const struct volume_spec *spec, char **ret, struct error *err)
{
	cleanup_free char *elder = NULL;
	struct stat st;
	int r;

	r = format_path(&elder, err, "%s/plugins/kubernetes.io/rbd/rbd/%s-image-%s", root,
			spec->pool, spec->image);
	if (r < 0)
		return r;
	if (lstat(elder, &st) == 0) {
		*ret = take_ptr(elder);
		return 0;
	}
	return format_path(ret, err, "%s/plugins/kubernetes.io/rbd/mounts/%s-image-%s", root,
			   spec->pool, spec->image);
}

int path_rbd_target(const char *root, const char *uid, const char *name, char **ret,
		    struct error *err)
{
	return format_path(ret, err, "%s/pods/%s/volumes/kubernetes.io~rbd/%s", root, uid, name);
}
