#include "plugin/document.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/file.h"
#include "control/client.h"
#include "control/codec.h"

/* --- YAML ---------------------------------------------------------------------------------------
 */

struct reader {
	yaml_parser_t parser;
	const char *wrong; /* what was wrong; NULL: libyaml's word, or no memory */
};

static void cleanup_event_fn(yaml_event_t *event)
{
	yaml_event_delete(event);
}

#define cleanup_event cleanup(cleanup_event_fn)

static json_t *read_node(struct reader *reader, yaml_event_t *event, unsigned depth);

static json_t *refuse(struct reader *reader, const char *wrong)
{
	reader->wrong = wrong;
	return NULL;
}

static json_t *read_scalar(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;

	if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return json_stringn(text, event->data.scalar.length);
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
		return json_boolean(text[0] == 't');
	if (strcmp(text, "null") == 0 || strcmp(text, "~") == 0 || !*text)
		return json_null();
	return json_stringn(text, event->data.scalar.length);
}

static json_t *read_sequence(struct reader *reader, unsigned depth)
{
	cleanup_json json_t *array = json_array();

	while (array) {
		cleanup_event yaml_event_t event = { 0 };
		json_t *item;

		if (!yaml_parser_parse(&reader->parser, &event))
			return NULL;
		if (event.type == YAML_SEQUENCE_END_EVENT)
			return take_ptr(array);
		item = read_node(reader, &event, depth);
		if (!item || json_array_append_new(array, item) < 0)
			return NULL;
	}
	return NULL;
}

/* Reads the value of the key in @event and puts both into @object. */
static bool read_member(struct reader *reader, json_t *object, const yaml_event_t *event,
			unsigned depth)
{
	cleanup_event yaml_event_t value_event = { 0 };
	const char *key = (const char *)event->data.scalar.value;
	json_t *value;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(reader, "a key must be a string");
	if (json_object_get(object, key))
		return refuse(reader, "a key stands twice in one mapping");
	if (!yaml_parser_parse(&reader->parser, &value_event))
		return false;
	value = read_node(reader, &value_event, depth);
	return value && json_object_set_new(object, key, value) == 0;
}

static json_t *read_mapping(struct reader *reader, unsigned depth)
{
	cleanup_json json_t *object = json_object();

	while (object) {
		cleanup_event yaml_event_t event = { 0 };

		if (!yaml_parser_parse(&reader->parser, &event))
			return NULL;
		if (event.type == YAML_MAPPING_END_EVENT)
			return take_ptr(object);
		if (!read_member(reader, object, &event, depth))
			return NULL;
	}
	return NULL;
}

/* The value that begins with @event. NULL: see struct reader. */
static json_t *read_node(struct reader *reader, yaml_event_t *event, unsigned depth)
{
	if (depth > DOCUMENT_DEPTH_MAX)
		return refuse(reader, "it is nested too deep");
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return read_scalar(event);
	case YAML_SEQUENCE_START_EVENT:
		return read_sequence(reader, depth + 1);
	case YAML_MAPPING_START_EVENT:
		return read_mapping(reader, depth + 1);
	case YAML_ALIAS_EVENT:
		return refuse(reader, "aliases (*name) are not taken");
	default:
		return refuse(reader, "it holds no value");
	}
}

/* Skips to the next event that is not a mere frame; false at an error. */
static bool next_content(struct reader *reader, yaml_event_t *event)
{
	for (;;) {
		if (!yaml_parser_parse(&reader->parser, event))
			return false;
		if (event->type != YAML_STREAM_START_EVENT &&
		    event->type != YAML_DOCUMENT_START_EVENT &&
		    event->type != YAML_DOCUMENT_END_EVENT)
			return true;
		yaml_event_delete(event);
	}
}

static json_t *read_only_document(struct reader *reader)
{
	cleanup_event yaml_event_t first = { 0 }, after = { 0 };
	cleanup_json json_t *root = NULL;

	if (!next_content(reader, &first))
		return NULL;
	root = read_node(reader, &first, 0);
	if (!root || !next_content(reader, &after))
		return NULL;
	if (after.type != YAML_STREAM_END_EVENT)
		return refuse(reader, "it holds more than one document; give each its own file");
	return take_ptr(root);
}

static int parse_yaml(const char *name, const char *text, size_t length, json_t **ret,
		      struct error *err)
{
	struct reader reader = { 0 };
	json_t *root;
	int r = 0;

	if (!yaml_parser_initialize(&reader.parser))
		return error_set(err, -ENOMEM, "out of memory");
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, length);
	root = read_only_document(&reader);
	if (root)
		*ret = root;
	else if (reader.wrong)
		r = error_set(err, -EINVAL, "%s: %s", name, reader.wrong);
	else
		r = error_set(err, -EINVAL, "%s: no valid YAML: %s (line %zu)", name,
			      reader.parser.problem ? reader.parser.problem : "out of memory",
			      reader.parser.problem_mark.line + 1);
	yaml_parser_delete(&reader.parser);
	return r;
}

/* --- JSON and the whole -------------------------------------------------------------------------
 */

static int parse_json(const char *name, const char *text, size_t length, json_t **ret,
		      struct error *err)
{
	json_error_t parse;

	if (!control_depth_ok(text, length, DOCUMENT_DEPTH_MAX))
		return error_set(err, -EINVAL, "%s: it is nested too deep", name);
	*ret = json_loadb(text, length, JSON_REJECT_DUPLICATES, &parse);
	if (!*ret)
		return error_set(err, -EINVAL, "%s: no valid JSON (line %d, column %d)", name,
				 parse.line, parse.column);
	return 0;
}

int document_parse(const char *name, const char *text, size_t length, json_t **ret,
		   struct error *err)
{
	cleanup_json json_t *root = NULL;
	size_t start = 0;
	int r;

	while (start < length && isspace((unsigned char)text[start]))
		start++;
	if (start < length && text[start] == '{')
		r = parse_json(name, text, length, &root, err);
	else
		r = parse_yaml(name, text, length, &root, err);
	if (r < 0)
		return r;
	if (!json_is_object(root))
		return error_set(err, -EINVAL, "%s: it is no Kubernetes object", name);
	*ret = take_ptr(root);
	return 0;
}

int document_read(const char *path, json_t **ret, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *buffer = malloc(DOCUMENT_MAX + 1);
	ssize_t length;
	int r;

	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %s", path, errno_text(errno));
	if (!buffer)
		return error_set(err, -ENOMEM, "out of memory");
	length = file_read(fd, buffer, DOCUMENT_MAX + 1);
	if (length < 0)
		return error_set(err, (int)length, "cannot read %s: %s", path,
				 errno_text((int)length));
	if (length > DOCUMENT_MAX)
		r = error_set(err, -EFBIG, "%s is longer than %d bytes", path, DOCUMENT_MAX);
	else
		r = document_parse(path, buffer, (size_t)length, ret, err);
	explicit_bzero(buffer, (size_t)length); /* it may have been a Secret */
	return r;
}
