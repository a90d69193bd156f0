#include "control/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/macros.h"

#define CAPACITY_FIRST 4096u

void line_reader_deinit(struct line_reader *reader)
{
	if (reader->buffer)
		explicit_bzero(reader->buffer, reader->capacity);
	free(reader->buffer);
	*reader = LINE_READER(reader->max);
}

/* What was handed out is wiped here at the latest: its place is taken by what follows it. */
static void move_to_front(struct line_reader *reader)
{
	size_t length = reader->end - reader->start;

	if (reader->start == 0)
		return;
	memmove(reader->buffer, reader->buffer + reader->start, length);
	explicit_bzero(reader->buffer + length, reader->end - length);
	reader->scanned -= reader->start;
	reader->start = 0;
	reader->end = length;
}

/* No realloc: it would leave a copy behind. One byte above the bound holds the newline. */
static int grow(struct line_reader *reader)
{
	size_t capacity = MAX(reader->capacity * 2, CAPACITY_FIRST);
	char *buffer;

	capacity = MIN(capacity, reader->max + 1);
	buffer = malloc(capacity);
	if (!buffer)
		return -ENOMEM;
	if (reader->buffer) {
		memcpy(buffer, reader->buffer, reader->end);
		explicit_bzero(reader->buffer, reader->capacity);
		free(reader->buffer);
	}
	reader->buffer = buffer;
	reader->capacity = capacity;
	return 0;
}

ssize_t line_reader_fill(struct line_reader *reader, int fd)
{
	ssize_t n;

	move_to_front(reader);
	if (reader->end == reader->capacity) {
		int r = reader->end > reader->max ? -EMSGSIZE : grow(reader);

		if (r < 0)
			return r;
	}
	n = read(fd, reader->buffer + reader->end, reader->capacity - reader->end);
	if (n < 0)
		return -errno;
	reader->end += (size_t)n;
	return n;
}

int line_reader_next(struct line_reader *reader, char **ret_line, size_t *ret_length)
{
	char *newline = NULL;

	if (reader->end > reader->scanned)
		newline = memchr(reader->buffer + reader->scanned, '\n',
				 reader->end - reader->scanned);
	if (!newline) {
		reader->scanned = reader->end;
		return reader->end - reader->start > reader->max ? -EMSGSIZE : 0;
	}
	*newline = '\0';
	*ret_line = reader->buffer + reader->start;
	*ret_length = (size_t)(newline - *ret_line);
	reader->start = reader->scanned = (size_t)(newline - reader->buffer) + 1;
	return 1;
}

bool line_reader_pending(const struct line_reader *reader)
{
	return reader->end > reader->start;
}
