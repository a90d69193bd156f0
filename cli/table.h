/* Columns as wide as what they hold, two blanks between them; the last one is not padded. */
#pragma once

#include <stddef.h>

/* Prints @nr_rows rows of @nr_columns cells each on stdout. */
void table_print(const char *const *cells, size_t nr_rows, size_t nr_columns);
