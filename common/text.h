/* Strings that may be absent. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool text_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* What @sentence lacks to end as one. */
static inline const char *text_stop(const char *sentence)
{
	size_t length = strlen(sentence);

	return length && sentence[length - 1] == '.' ? "" : ".";
}

/* The caller's; NULL of NULL, or without memory. */
static inline char *text_copy(const char *text)
{
	return text ? strdup(text) : NULL;
}
