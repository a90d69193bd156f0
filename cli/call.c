/* Calling urbdd, and printing what it says. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void show_progress(const char *text, void *data)
{
	note("%s", text);
}

int cli_call(struct cli *cli, const char *method, json_t *params, unsigned timeout_s, json_t **ret,
	     struct error *err)
{
	cleanup_control_client struct control_client *client = NULL;
	int r;

	r = control_connect(cli->socket, &client, err);
	if (r < 0) {
		json_decref(params);
		return r;
	}
	if (isatty(STDERR_FILENO))
		control_on_progress(client, show_progress, NULL);
	return control_call(client, method, params, timeout_s, ret, err);
}

const char *json_text(json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

double json_number(json_t *object, const char *name)
{
	return (double)json_integer_value(json_object_get(object, name));
}

void print_json(const struct cli *cli, json_t *json)
{
	json_dumpf(json, stdout, cli->pretty ? JSON_INDENT(4) : JSON_COMPACT);
	putchar('\n');
}
