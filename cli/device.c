/* A device as people name it: by its path, a link to it as udev makes them, or its image. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/spec.h"

static bool is_image(json_t *device, const char *wanted)
{
	cleanup_free char *spec = spec_format(device);

	return spec && strcmp(spec, wanted) == 0;
}

/* The path of the only one of @devices that has the image; a borrowed string. */
static int find_by_image(json_t *devices, const char *image, const char **ret, struct error *err)
{
	const char *found = NULL;
	json_t *device;
	size_t i;

	json_array_foreach(devices, i, device) {
		if (!is_image(device, image))
			continue;
		if (found)
			return error_set(err, -ENOTUNIQ,
					 "Several devices bear that name. Name the device instead; "
					 "`urbd list` shows them.");
		found = json_text(device, "device");
	}
	if (!found || !*found)
		return error_set(err, -ENXIO, "%s is %s.", image,
				 found ? "being mapped" : "not mapped");
	*ret = found;
	return 0;
}

static int take_image_device(struct cli *cli, const char *text)
{
	cleanup_json json_t *spec = NULL, *result = NULL;
	cleanup_free char *image = NULL;
	struct error err = ERROR_NONE;
	const char *path = NULL;
	int r;

	if (spec_parse(text, &spec, &err) < 0)
		return usage_error(cli, "%s", err.text);
	image = spec_format(spec);
	r = cli_call(cli, "list", NULL, CALL_TIMEOUT, &result, &err);
	if (r == 0)
		r = find_by_image(json_object_get(result, "devices"), image ? image : "", &path,
				  &err);
	if (r < 0)
		return failure(&err);
	json_object_set_new(cli->params, "device", json_string(path));
	return CLI_CONTINUE;
}

void device_take_path(struct cli *cli, const char *path)
{
	cleanup_free char *real = realpath(path, NULL);

	json_object_set_new(cli->params, "device", json_string(real ? real : path));
}

int device_take(struct cli *cli, const char *text)
{
	if (text[0] != '/')
		return take_image_device(cli, text);
	device_take_path(cli, text);
	return CLI_CONTINUE;
}
