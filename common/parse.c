#include "common/parse.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int parse_number(const char *text, uint64_t *ret, const char **ret_rest)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno == ERANGE)
		return -ERANGE;
	*ret = value;
	*ret_rest = end;
	return 0;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	const char *rest;
	uint64_t value;
	int r;

	r = parse_number(text, &value, &rest);
	if (r < 0)
		return r;
	if (*rest)
		return -EINVAL;
	if (value < min || value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

int parse_unsigned(const char *text, unsigned min, unsigned max, unsigned *ret)
{
	uint64_t value;
	int r;

	r = parse_u64(text, min, max, &value);
	if (r < 0)
		return r;
	*ret = (unsigned)value;
	return 0;
}

static int suffix_shift(const char *suffix)
{
	static const char letters[] = "KMGTPE";
	const char *letter;

	if (!*suffix || strcasecmp(suffix, "B") == 0)
		return 0;
	letter = strchr(letters, toupper((unsigned char)suffix[0]));
	if (!letter)
		return -EINVAL;
	if (suffix[1] && strcasecmp(suffix + 1, "B") != 0 && strcasecmp(suffix + 1, "iB") != 0)
		return -EINVAL;
	return (int)(letter - letters + 1) * 10;
}

int parse_size(const char *text, uint64_t *ret)
{
	const char *rest;
	uint64_t value;
	int r, shift;

	r = parse_number(text, &value, &rest);
	if (r < 0)
		return r;
	shift = suffix_shift(rest);
	if (shift < 0)
		return shift;
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = value << shift;
	return 0;
}

/* One of them or a range. */
static int add_cpus(const char *text, cpu_set_t *cpus, const char **ret_rest)
{
	uint64_t first, last;
	int r = parse_number(text, &first, ret_rest);

	if (r < 0)
		return r;
	last = first;
	if (**ret_rest == '-')
		r = parse_number(*ret_rest + 1, &last, ret_rest);
	if (r < 0)
		return r;
	if (last < first)
		return -EINVAL;
	if (last >= CPU_SETSIZE)
		return -ERANGE;
	for (; first <= last; first++)
		CPU_SET(first, cpus);
	return 0;
}

int parse_cpus(const char *text, cpu_set_t *ret)
{
	cpu_set_t cpus;
	int r;

	CPU_ZERO(&cpus);
	for (;;) {
		r = add_cpus(text, &cpus, &text);
		if (r < 0)
			return r;
		if (*text != ',')
			break;
		text++;
	}
	if (*text)
		return -EINVAL;
	*ret = cpus;
	return 0;
}
