/* Parsing by the tables of options. */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "control/schema.h"
#include "control/spec.h"

#define OPTIONS_MAX 40
#define LONG_ONLY   256 /* added to an option's index where it has no letter */

/* --- The options of every command ------------------------------------------------------------- */

static int take_socket(struct cli *cli, const char *value)
{
	if (!*value)
		return usage_error(cli, "--socket wants a path.");
	cli->socket = value;
	return CLI_CONTINUE;
}

static int take_help(struct cli *cli, const char *value)
{
	cli->help = true;
	return CLI_CONTINUE;
}

static int take_version(struct cli *cli, const char *value)
{
	printf("urbd %s\n", URBD_VERSION);
	return EXIT_OK;
}

static int take_format(struct cli *cli, const char *value)
{
	if (strcmp(value, "plain") != 0 && strcmp(value, "json") != 0)
		return usage_error(cli, "--format is plain or json, not '%s'.", value);
	cli->json = value[0] == 'j';
	return CLI_CONTINUE;
}

static int take_pretty(struct cli *cli, const char *value)
{
	cli->pretty = true;
	return CLI_CONTINUE;
}

const struct cli_option common_options[] = {
	{ .name = "socket",
	  .argument = "PATH",
	  .help = "urbdd's socket (default: $" CONTROL_SOCKET_ENV ", or " CONTROL_SOCKET_DEFAULT
		  ")",
	  .take = take_socket },
	{ .name = "help", .letter = 'h', .help = "show this text and exit", .take = take_help },
	{ 0 },
};

const struct cli_option main_options[] = {
	{ .name = "version",
	  .letter = 'V',
	  .help = "show the version and exit",
	  .take = take_version },
	{ 0 },
};

const struct cli_option format_options[] = {
	{ .name = "format",
	  .argument = "plain|json",
	  .help = "how to print (default: plain)",
	  .take = take_format },
	{ .name = "pretty-format", .help = "print json on several lines", .take = take_pretty },
	{ 0 },
};

/* --- Options that set a param ----------------------------------------------------------------- */

static int set_param(struct cli *cli, const char *name, json_t *value)
{
	if (json_object_set_new(cli->params, name, value) == 0)
		return CLI_CONTINUE;
	return usage_error(cli, "The value of %s is not valid UTF-8.", name);
}

static int set_integer(struct cli *cli, const struct cli_option *option,
		       const struct control_member *member, const char *value)
{
	uint64_t number;

	if (parse_u64(value, (uint64_t)member->min, (uint64_t)member->max, &number) < 0)
		return usage_error(cli,
				   "--%s wants a number from %" PRIi64 " to %" PRIi64 ", not '%s'.",
				   option->name, member->min, member->max, value);
	return set_param(cli, member->name, json_integer((json_int_t)number));
}

static int set_path(struct cli *cli, const struct cli_option *option,
		    const struct control_member *member, const char *value)
{
	char *path = *value ? path_absolute(value) : NULL;
	int code;

	if (!path)
		return usage_error(cli, "--%s wants a path.", option->name);
	code = set_param(cli, member->name, json_string(path));
	free(path);
	return code;
}

static int take(struct cli *cli, const struct cli_option *option, const char *value)
{
	const struct control_member *member;

	if (option->take)
		return option->take(cli, value);
	member = control_param_find(cli->command->method, option->param);
	if (member->kind == CONTROL_INTEGER)
		return set_integer(cli, option, member, value);
	if (member->kind == CONTROL_PATH)
		return set_path(cli, option, member, value);
	if (member->kind == CONTROL_BOOLEAN)
		return set_param(cli, option->param, json_true());
	if (!*value && member->min > 0)
		return usage_error(cli, "--%s wants a value.", option->name);
	if (!*value)
		return CLI_CONTINUE; /* --namespace "" is the default one */
	return set_param(cli, option->param, json_string(value));
}

/* --- getopt ----------------------------------------------------------------------------------- */

struct parser {
	const struct cli_option *options[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char letters[3 + 2 * OPTIONS_MAX];
	unsigned count;
	size_t nr_letters;
};

static void add_option(struct parser *parser, const struct cli_option *option)
{
	unsigned index = parser->count++;

	parser->options[index] = option;
	parser->longs[index] = (struct option){
		.name = option->name,
		.has_arg = option->argument ? required_argument : no_argument,
		.val = LONG_ONLY + (int)index,
	};
	if (!option->letter)
		return;
	parser->letters[parser->nr_letters++] = option->letter;
	if (option->argument)
		parser->letters[parser->nr_letters++] = ':';
}

static void add_options(struct parser *parser, const struct cli_option *options)
{
	for (; options->name && parser->count < OPTIONS_MAX; options++)
		add_option(parser, options);
}

/* Options of urbd itself end at the command ('+'); a command's may stand anywhere. */
static void parser_init(struct parser *parser, const struct command *command)
{
	*parser = (struct parser){ 0 };
	if (!command)
		parser->letters[parser->nr_letters++] = '+';
	parser->letters[parser->nr_letters++] = ':';
	for (unsigned i = 0; command && command->options[i]; i++)
		add_options(parser, command->options[i]);
	if (!command)
		add_options(parser, main_options);
	add_options(parser, common_options);
}

static const struct cli_option *option_of(const struct parser *parser, int value)
{
	if (value >= LONG_ONLY)
		return parser->options[value - LONG_ONLY];
	for (unsigned i = 0; i < parser->count; i++)
		if (parser->options[i]->letter == value)
			return parser->options[i];
	return NULL;
}

/* What stands after '=' is not repeated: it may be a key that was given to a mistyped option. */
static int not_parsed(const struct cli *cli, const struct parser *parser, int value,
		      const char *word)
{
	const struct cli_option *option = optopt ? option_of(parser, optopt) : NULL;
	const char *command = cli->command ? cli->command->name : "";
	const char *has = cli->command ? " has no" : "There is no";

	if (value == ':' && option)
		return usage_error(cli, "--%s wants a value.", option->name);
	if (option)
		return usage_error(cli, "--%s takes no value.", option->name);
	if (optopt)
		return usage_error(cli, "%s%s option -%c.", command, has, optopt);
	return usage_error(cli, "%s%s option %.*s.", command, has, (int)strcspn(word, "="), word);
}

static int take_operands(struct cli *cli, int argc, char **argv)
{
	cli->operands = argv + optind;
	cli->nr_operands = (unsigned)(argc - optind);
	if (!cli->command || cli->help || cli->nr_operands <= cli->command->max_operands)
		return CLI_CONTINUE;
	return usage_error(cli, "%s does not know what to do with '%s'.", cli->command->name,
			   cli->operands[cli->command->max_operands]);
}

int options_parse(struct cli *cli, int argc, char **argv)
{
	struct parser parser;
	int value, code;

	parser_init(&parser, cli->command);
	opterr = 0;
	optind = 0; /* glibc: begin anew */
	while ((value = getopt_long(argc, argv, parser.letters, parser.longs, NULL)) != -1) {
		if (value == '?' || value == ':')
			return not_parsed(cli, &parser, value, argv[optind - 1]);
		code = take(cli, option_of(&parser, value), optarg);
		if (code != CLI_CONTINUE)
			return code;
	}
	return take_operands(cli, argc, argv);
}
