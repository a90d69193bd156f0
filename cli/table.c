#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static int width_of(const char *const *cells, size_t nr_rows, size_t nr_columns, size_t column)
{
	size_t width = 0;

	for (size_t row = 0; row < nr_rows; row++) {
		size_t length = strlen(cells[row * nr_columns + column]);

		if (length > width)
			width = length;
	}
	return (int)width;
}

static void print_row(const char *const *row, const int *widths, size_t nr_columns)
{
	for (size_t column = 0; column + 1 < nr_columns; column++)
		printf("%-*s  ", widths[column], row[column]);
	puts(row[nr_columns - 1]);
}

void table_print(const char *const *cells, size_t nr_rows, size_t nr_columns)
{
	int widths[16];

	for (size_t column = 0; column < nr_columns; column++)
		widths[column] = width_of(cells, nr_rows, nr_columns, column);
	for (size_t row = 0; row < nr_rows; row++)
		print_row(cells + row * nr_columns, widths, nr_columns);
}
