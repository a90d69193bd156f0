#include "plugin/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define WHITE_SPACE " \t\r\n"

static int digit_value(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *digit = c ? strchr(digits, c) : NULL;

	return digit ? (int)(digit - digits) : -EINVAL;
}

/* The digits of @text without white space and padding. Refuses all else, and digits after padding.
 */
static int collect_digits(const char *text, uint8_t *digits, size_t *ret_count)
{
	size_t count = 0, padding = 0;

	for (; *text; text++) {
		int value = digit_value(*text);

		if (strchr(WHITE_SPACE, *text))
			continue;
		if (*text == '=') {
			padding++;
			continue;
		}
		if (value < 0 || padding)
			return -EINVAL;
		digits[count++] = (uint8_t)value;
	}
	if ((count + padding) % 4 || padding > 2)
		return -EINVAL;
	*ret_count = count;
	return 0;
}

static size_t join_digits(const uint8_t *digits, size_t count, char *bytes)
{
	uint32_t bits = 0;
	size_t length = 0;

	for (size_t i = 0; i < count; i++) {
		bits = bits << 6 | digits[i];
		if (i % 4)
			bytes[length++] = (char)(bits >> (6 - 2 * (i % 4)));
	}
	return length;
}

int base64_decode(const char *text, char **ret, size_t *ret_length)
{
	size_t size = strlen(text) + 1, count;
	cleanup_free uint8_t *digits = malloc(size);
	cleanup_free char *bytes = calloc(1, size);
	int r;

	if (!digits || !bytes)
		return -ENOMEM;
	r = collect_digits(text, digits, &count);
	if (r == 0) {
		*ret_length = join_digits(digits, count, bytes);
		*ret = take_ptr(bytes);
	}
	explicit_bzero(digits, size);
	return r;
}
