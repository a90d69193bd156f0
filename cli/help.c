/* The help texts, printed from the tables. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WIDTH	    80
#define HELP_COLUMN 28

/* --- Words on stderr -------------------------------------------------------------------------- */

void note(const char *fmt, ...)
{
	va_list args;

	fputs("urbd: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

int usage_error(const struct cli *cli, const char *fmt, ...)
{
	const char *name = cli->command ? cli->command->name : NULL;
	va_list args;

	fputs("urbd: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, " See 'urbd %s%s--help'.\n", name ? name : "", name ? " " : "");
	return EXIT_USAGE;
}

int failure(const struct error *err)
{
	note("%s", err->text);
	return EXIT_FAILED;
}

/* --- Help ------------------------------------------------------------------------------------- */

/* @text from the current @column on, broken between words; further lines begin at @indent. */
static void print_wrapped(const char *text, int column, int indent)
{
	while (*text) {
		int length = (int)strcspn(text, " ");

		if (column > indent && column + 1 + length > WIDTH) {
			printf("\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			column += printf(" ");
		}
		column += printf("%.*s", length, text);
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void print_entry(const char *head, const char *text)
{
	int column = printf("  %s", head);

	if (column + 2 > HELP_COLUMN) {
		putchar('\n');
		column = 0;
	}
	printf("%*s", HELP_COLUMN - column, "");
	print_wrapped(text, HELP_COLUMN, HELP_COLUMN);
}

static void print_options(const struct cli_option *options)
{
	char head[80], letter[8];

	for (; options->name; options++) {
		if (!options->help)
			continue;
		snprintf(letter, sizeof(letter), options->letter ? "-%c, " : "    ",
			 options->letter);
		snprintf(head, sizeof(head), "%s--%s%s%s", letter, options->name,
			 options->argument ? " " : "", options->argument ? options->argument : "");
		print_entry(head, options->help);
	}
}

static void print_command(const struct command *command)
{
	printf("Usage: urbd %s [OPTION]...%s%s\n", command->name, *command->arguments ? " " : "",
	       command->arguments);
	if (command->alias)
		printf("       urbd %s ...\n", command->alias);
	printf("\n%s\n\nOptions:\n", command->summary);
	for (unsigned i = 0; command->options[i]; i++)
		print_options(command->options[i]);
	print_options(common_options);
	if (command->details)
		printf("\n%s", command->details);
}

static void print_overview(void)
{
	puts("Usage: urbd [--socket PATH] COMMAND [OPTION]... [ARGUMENT]...\n"
	     "\n"
	     "Makes Ceph RBD images block devices of this node, through the daemon urbdd.\n"
	     "\n"
	     "Commands:");
	for (const struct command *const *at = commands; *at; at++)
		print_entry((*at)->name, (*at)->summary);
	puts("\nOptions:");
	print_options(main_options);
	print_options(common_options);
	puts("\nurbd COMMAND --help tells more about a command.\n"
	     "Exit status: 0 done, 1 failed, 2 wrong usage.");
}

void help_print(const struct command *command)
{
	if (command)
		print_command(command);
	else
		print_overview();
}

static int run_help(struct cli *cli)
{
	const struct command *command = NULL;

	if (cli->nr_operands > 0) {
		command = command_find(cli->operands[0]);
		cli->command = NULL;
		if (!command)
			return usage_error(cli, "There is no command '%s'.", cli->operands[0]);
	}
	help_print(command);
	return EXIT_OK;
}

const struct command help_command = {
	.name = "help",
	.arguments = "[COMMAND]",
	.summary = "Show what urbd or one of its commands does.",
	.max_operands = 1,
	.run = run_help,
};
