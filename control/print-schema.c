/* Prints the methods as Markdown, for docs/control-protocol.md (see scripts/update-docs). */
#include "control/schema.h"

int main(void)
{
	control_schema_print(stdout);
	return fflush(stdout) == 0 ? 0 : 1;
}
