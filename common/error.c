#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_MAX 4095

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list args;

	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return code;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char old[sizeof(err->text)];
	va_list args;
	int n;

	memcpy(old, err->text, sizeof(old));
	va_start(args, fmt);
	n = vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n < sizeof(err->text))
		snprintf(err->text + n, sizeof(err->text) - (size_t)n, "%s", old);
	return err->code;
}

const char *errno_name(int code)
{
	const char *name = strerrorname_np(abs(code));

	return name ? name : "EUNKNOWN";
}

int errno_from_name(const char *name)
{
	for (int code = 1; code < ERRNO_MAX; code++) {
		const char *known = strerrorname_np(code);

		if (known && strcmp(known, name) == 0)
			return code;
	}
	return 0;
}

const char *errno_text(int code)
{
	const char *text = strerrordesc_np(abs(code));

	return text ? text : "Unknown error";
}
