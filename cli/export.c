/* export and unexport. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/spec.h"

/* A socket's path may be relative to where the user is; the daemon is elsewhere. */
static int take_listen(struct cli *cli, const char *value)
{
	cleanup_free char *path = NULL;

	if (strncmp(value, "unix:", 5) != 0) {
		json_object_set_new(cli->params, "listen", json_string(value));
		return CLI_CONTINUE;
	}
	path = value[5] ? path_absolute(value + 5) : NULL;
	if (!path)
		return usage_error(cli, "--listen unix: wants a path.");
	json_object_set_new(cli->params, "listen", json_sprintf("unix:%s", path));
	return CLI_CONTINUE;
}

static const struct cli_option export_options[] = {
	{ .name = "listen",
	  .letter = 'l',
	  .argument = "unix:PATH|HOST:PORT|[ADDRESS]:PORT",
	  .help = "where to serve; several exports may share an address (default: where urbdd "
		  "listens from its start)",
	  .take = take_listen },
	{ .name = "export-name",
	  .argument = "NAME",
	  .help = "the name by which clients choose it (default: the image's)",
	  .param = "name" },
	{ .name = "tls-certificates",
	  .argument = "DIR",
	  .help = "ask TLS and a certificate of clients; DIR has ca-cert.pem, server-cert.pem "
		  "and server-key.pem",
	  .param = "tls_certificates" },
	{ .name = "tls-keys",
	  .argument = "FILE",
	  .help = "ask TLS and a pre-shared key of clients; psktool writes FILE",
	  .param = "tls_keys" },
	{ .name = "max-connections",
	  .argument = "N",
	  .help = "connections that the address serves at once (default: as urbdd says, 128)",
	  .param = "max_connections" },
	{ 0 },
};

static const struct cli_option unexport_options[] = {
	{ .name = "export-name",
	  .argument = "NAME",
	  .help = "the export's name, which is not taken for an image",
	  .param = "name" },
	{ .name = "force",
	  .help = "cut clients off at once, without an answer to what is in flight; the image "
		  "is closed when the storage has answered that, for which nobody waits",
	  .param = "force" },
	{ .name = "timeout",
	  .argument = "SECONDS",
	  .help = "how long requests in flight may take (default: 30)",
	  .param = "timeout" },
	{ 0 },
};

static int run_export(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	const char *text = image_operand(cli);
	int code = text ? image_take_spec(cli, text) : EXIT_USAGE;

	if (code == CLI_CONTINUE)
		code = image_check(cli);
	if (code != CLI_CONTINUE)
		return code;
	if (image_call(cli, &result, &err) < 0)
		return failure(&err);
	puts(json_text(result, "uri"));
	return EXIT_OK;
}

/* Whether options say that the argument is an image's name, not the export's. */
static bool names_image(const struct cli *cli)
{
	return cli->image || json_object_get(cli->params, "pool") ||
	       json_object_get(cli->params, "namespace") ||
	       json_object_get(cli->params, "snapshot");
}

int export_take_any_name(struct cli *cli, const char *param, const char *text)
{
	bool uri = strncmp(text, "nbd", 3) == 0 && strstr(text, "://");
	struct error ignored = ERROR_NONE;
	cleanup_json json_t *spec = NULL;

	if (json_object_set_new(cli->params, param, json_string(text)) < 0)
		return usage_error(cli, "The export's name is not valid UTF-8.");
	if (!uri && spec_parse(text, &spec, &ignored) == 0)
		json_object_update(cli->params, spec);
	return CLI_CONTINUE;
}

static int take_target(struct cli *cli)
{
	const char *text;

	if (json_object_get(cli->params, "name")) {
		if (cli->nr_operands == 0)
			return CLI_CONTINUE;
		return usage_error(cli, "Name the export once: by --export-name or as argument.");
	}
	text = image_operand(cli);
	if (!text)
		return EXIT_USAGE;
	return names_image(cli) ? image_take_spec(cli, text)
				: export_take_any_name(cli, "name", text);
}

static int run_unexport(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	int code = take_target(cli), r;

	if (code == CLI_CONTINUE)
		code = image_check(cli);
	if (code != CLI_CONTINUE)
		return code;
	r = image_call(cli, &result, &err);
	if (r == -ENXIO) {
		note("%s", err.text);
		return EXIT_OK;
	}
	return r < 0 ? failure(&err) : EXIT_OK;
}

const struct command export_command = {
	.name = "export",
	.arguments = "IMAGE",
	.summary = "Serve an image to NBD clients, and print the URI for them.",
	.details =
		"IMAGE is what map takes. A unix socket admits root alone; TCP needs an explicit\n"
		"address, and should have TLS. What is exported so already is left as it is.\n"
		"\n"
		"Examples:\n"
		"  urbd export rbd/foo --listen unix:/run/urbd/foo.sock\n"
		"  urbd export rbd/foo@monday --listen 10.0.0.5:10809 --tls-certificates /etc/pki\n"
		"  qemu-img convert \"$(urbd export rbd/foo --read-only -l unix:/tmp/s)\" "
		"foo.qcow2\n",
	.max_operands = 1,
	.method = "export",
	.options = { export_options, open_options, image_options },
	.run = run_export,
};

const struct command unexport_command = {
	.name = "unexport",
	.arguments = "NAME|URI|IMAGE",
	.summary = "Take an export away.",
	.details = "Name it by its name or URI, as urbd list shows them, or by its image. Clients\n"
		   "get the answers to what is in flight, and are disconnected. It is no failure\n"
		   "when there is no such export.\n",
	.max_operands = 1,
	.method = "unexport",
	.options = { unexport_options, image_options },
	.run = run_unexport,
};
