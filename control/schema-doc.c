/* The tables of schema.c as Markdown. */
#include "control/schema.h"

#include <inttypes.h>
#include <string.h>

static void print_choices(const char *choices, FILE *out)
{
	for (const char *end; *choices; choices = end + (*end == '|')) {
		end = choices + strcspn(choices, "|");
		fprintf(out, "`%.*s`%s", (int)(end - choices), choices, *end ? ", " : "");
	}
}

static void print_kind(const struct control_member *member, FILE *out)
{
	static const char *const words[] = {
		[CONTROL_STRING] = "string",
		[CONTROL_NAME] = "name",
		[CONTROL_PATH] = "absolute path",
		[CONTROL_CHOICE] = "",
		[CONTROL_INTEGER] = "integer",
		[CONTROL_BOOLEAN] = "boolean",
		[CONTROL_OPTIONS] = "object of strings",
		[CONTROL_OBJECT] = "object",
		[CONTROL_ARRAY] = "array",
	};

	fputs(words[member->kind], out);
	if (member->kind == CONTROL_CHOICE)
		print_choices(member->choices, out);
	else if (member->kind == CONTROL_INTEGER && member->max)
		fprintf(out, ", %" PRIi64 " to %" PRIi64, member->min, member->max);
	if (member->secret)
		fputs(", secret", out);
}

static void print_member(const struct control_member *member, FILE *out)
{
	fprintf(out, "| `%s` | ", member->name);
	print_kind(member, out);
	fprintf(out, " | %s%s", member->required ? "Required. " : "", member->doc);
	if (member->fallback)
		fprintf(out, " Default: %s.", member->fallback);
	fputs(" |\n", out);
}

static void print_groups(const char *title, const struct control_member *const *groups, FILE *out)
{
	if (!groups[0]) {
		fprintf(out, "\n%s: none.\n", title);
		return;
	}
	fprintf(out, "\n| %s | type | meaning |\n|---|---|---|\n", title);
	for (unsigned i = 0; i < CONTROL_GROUPS_MAX && groups[i]; i++)
		for (const struct control_member *member = groups[i]; member->name; member++)
			print_member(member, out);
}

void control_schema_print(FILE *out)
{
	for (const struct control_method *method = control_methods; method->name; method++) {
		fprintf(out, "### %s\n\n%s\n", method->name, method->doc);
		print_groups("parameter", method->params, out);
		print_groups("result", method->results, out);
		if (method->errors)
			fprintf(out, "\nErrors: %s.\n", method->errors);
		fputs(method[1].name ? "\n" : "", out);
	}
}
