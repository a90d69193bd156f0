#include "control/secrets.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"

#define FILE_MAX (4 * SECRET_MAX) /* a keyring is told from a key by what it holds, not by size */

/* --- Memory ----------------------------------------------------------------------------------- */

void secret_free(char *secret)
{
	if (secret)
		explicit_bzero(secret, malloc_usable_size(secret));
	free(secret);
}

static void free_wiped(void *memory)
{
	secret_free(memory);
}

void secrets_guard_json(void)
{
	json_set_alloc_funcs(malloc, free_wiped);
}

/* --- Text ------------------------------------------------------------------------------------- */

static bool printable(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!isgraph((unsigned char)text[i]))
			return false;
	return true;
}

static int check(const char *text, size_t length, const char *what, struct error *err)
{
	if (length == 0)
		return error_set(err, -EINVAL, "%s is empty: it must hold the user's key.", what);
	if (text[0] == '[')
		return error_set(err, -EINVAL,
				 "%s is a keyring, not a key alone: give it as keyring instead.",
				 what);
	if (length > SECRET_MAX)
		return error_set(err, -EFBIG, "%s is longer than a key can be (%d bytes).", what,
				 SECRET_MAX);
	if (!printable(text, length))
		return error_set(err, -EINVAL,
				 "%s is no key: it must hold the key's text and nothing else.",
				 what);
	return 0;
}

int secret_trim(const char *text, size_t length, const char *what, char **ret, struct error *err)
{
	char *secret;
	int r;

	while (length > 0 && isspace((unsigned char)text[0]))
		text++, length--;
	while (length > 0 && isspace((unsigned char)text[length - 1]))
		length--;
	r = check(text, length, what, err);
	if (r < 0)
		return r;
	secret = strndup(text, length);
	if (!secret)
		return error_set(err, -ENOMEM, "Out of memory.");
	*ret = secret;
	return 0;
}

/* --- Files ------------------------------------------------------------------------------------ */

int secret_read_file(const char *path, char **ret, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char buffer[FILE_MAX];
	ssize_t length;
	int r;

	if (fd < 0)
		return error_set(err, -errno, "Cannot open the key file %s: %s.", path,
				 errno_text(errno));
	length = file_read(fd, buffer, sizeof(buffer));
	if (length < 0)
		r = error_set(err, (int)length, "Cannot read the key file %s: %s.", path,
			      errno_text((int)length));
	else
		r = secret_trim(buffer, (size_t)length, path, ret, err);
	explicit_bzero(buffer, sizeof(buffer));
	return r;
}
