#include "control/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- Depth ------------------------------------------------------------------------------------ */

/* The place after the string that begins before @at, or @end where it never ends. */
static const char *skip_string(const char *at, const char *end)
{
	for (; at < end && *at != '"'; at++)
		if (*at == '\\' && at + 1 < end)
			at++;
	return at < end ? at + 1 : end;
}

bool control_depth_ok(const char *text, size_t length, unsigned max)
{
	const char *end = text + length;
	unsigned depth = 0;

	while (text < end) {
		char c = *text++;

		if (c == '"')
			text = skip_string(text, end);
		else if ((c == '{' || c == '[') && ++depth > max)
			return false;
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
	}
	return true;
}

/* --- Parsing ---------------------------------------------------------------------------------- */

static void malformed(struct control_message *message, int code, const char *sentence)
{
	message->type = CONTROL_MALFORMED;
	message->code = code;
	error_set(&message->error, -EPROTO, "%s", sentence);
}

/*
 * jansson's own words would quote the text around the fault, which may be a key: say only where it
 * is.
 */
static json_t *load(const char *line, size_t length, struct control_message *message)
{
	json_error_t fault;
	json_t *root;

	if (!control_depth_ok(line, length, CONTROL_DEPTH_MAX)) {
		malformed(message, CONTROL_PARSE_ERROR,
			  "The message is nested too deep: 8 objects and arrays within each other "
			  "are allowed.");
		return NULL;
	}
	root = json_loadb(line, length, JSON_REJECT_DUPLICATES, &fault);
	if (root)
		return root;
	message->type = CONTROL_MALFORMED;
	message->code = CONTROL_PARSE_ERROR;
	error_set(&message->error, -EPROTO,
		  "The message is no valid JSON at byte %d: send one JSON-RPC object a line, in "
		  "UTF-8.",
		  fault.position);
	return NULL;
}

static bool id_ok(const json_t *id)
{
	return json_is_string(id) || json_is_integer(id);
}

static void parse_call(struct control_message *message, json_t *method)
{
	message->params = json_object_get(message->root, "params");
	if (!json_is_string(method))
		malformed(message, CONTROL_INVALID_REQUEST, "\"method\" must be a string.");
	else if (message->params && !json_is_object(message->params))
		malformed(message, CONTROL_INVALID_REQUEST,
			  "\"params\" must be an object with a member for each parameter.");
	else
		message->type = message->id ? CONTROL_REQUEST : CONTROL_NOTIFICATION;
	message->method = json_string_value(method);
}

static int errno_of_code(int code)
{
	switch (code) {
	case CONTROL_NO_SUCH_METHOD:
		return ENOSYS;
	case CONTROL_INVALID_PARAMS:
		return EINVAL;
	case CONTROL_PARSE_ERROR:
	case CONTROL_INVALID_REQUEST:
		return EPROTO;
	default:
		return EIO;
	}
}

static void parse_error(struct control_message *message, json_t *error)
{
	json_t *code = json_object_get(error, "code");
	const char *text = json_string_value(json_object_get(error, "message"));
	const char *name =
		json_string_value(json_object_get(json_object_get(error, "data"), "errno"));
	int number = name ? errno_from_name(name) : 0;

	if (!json_is_integer(code) || !text) {
		malformed(message, CONTROL_INVALID_REQUEST,
			  "\"error\" must hold an integer \"code\" and a string \"message\".");
		return;
	}
	message->type = CONTROL_ERROR;
	message->code = (int)json_integer_value(code);
	error_set(&message->error, number > 0 ? -number : -errno_of_code(message->code), "%s",
		  text);
}

static void parse_root(struct control_message *message)
{
	const char *version = json_string_value(json_object_get(message->root, "jsonrpc"));
	json_t *method = json_object_get(message->root, "method");
	json_t *error = json_object_get(message->root, "error");

	message->id = json_object_get(message->root, "id");
	message->result = json_object_get(message->root, "result");
	if (!version || strcmp(version, "2.0") != 0)
		malformed(message, CONTROL_INVALID_REQUEST, "\"jsonrpc\" must be \"2.0\".");
	else if (message->id && !id_ok(message->id) && !(error && json_is_null(message->id)))
		malformed(message, CONTROL_INVALID_REQUEST,
			  "\"id\" must be a string or an integer.");
	else if (!!method + !!message->result + !!error != 1)
		malformed(message, CONTROL_INVALID_REQUEST,
			  "The message must hold one of \"method\", \"result\" and \"error\".");
	else if (method)
		parse_call(message, method);
	else if (!message->id)
		malformed(message, CONTROL_INVALID_REQUEST, "An answer must hold an \"id\".");
	else if (error)
		parse_error(message, error);
	else
		message->type = CONTROL_RESULT;
}

void control_parse(const char *line, size_t length, struct control_message *ret)
{
	*ret = (struct control_message){ .type = CONTROL_MALFORMED };
	ret->root = load(line, length, ret);
	if (!ret->root)
		return;
	if (json_is_object(ret->root))
		parse_root(ret);
	else
		malformed(ret, CONTROL_INVALID_REQUEST,
			  "The message must be one object; batches are not taken.");
	if (ret->type == CONTROL_MALFORMED && !id_ok(ret->id))
		ret->id = NULL;
}

void control_message_deinit(struct control_message *message)
{
	json_decref(message->root);
	*message = (struct control_message){ .type = CONTROL_MALFORMED };
}

/* --- Building --------------------------------------------------------------------------------- */

/* Consumes @value in any case; what fails once stays NULL. */
static json_t *with(json_t *object, const char *name, json_t *value)
{
	if (object && json_object_set_new(object, name, value) == 0)
		return object;
	if (!object)
		json_decref(value);
	json_decref(object);
	return NULL;
}

static json_t *envelope(void)
{
	return with(json_object(), "jsonrpc", json_string("2.0"));
}

json_t *control_notification(const char *method, json_t *params)
{
	json_t *message = with(envelope(), "method", json_string(method));

	return with(message, "params", params ? params : json_object());
}

json_t *control_request(json_int_t id, const char *method, json_t *params)
{
	return with(control_notification(method, params), "id", json_integer(id));
}

static json_t *answer(json_t *id, const char *name, json_t *value)
{
	return with(with(envelope(), name, value), "id", id ? json_incref(id) : json_null());
}

json_t *control_result(json_t *id, json_t *result)
{
	return answer(id, "result", result ? result : json_object());
}

json_t *control_error(json_t *id, int code, const struct error *err)
{
	json_t *data = with(json_object(), "errno", json_string(errno_name(err->code)));
	json_t *error = with(json_object(), "code", json_integer(code));
	json_t *text = json_string(err->text);

	/* A sentence cut off in the middle of a character is no UTF-8. */
	error = with(error, "message", text ? text : json_string("(unreadable error message)"));
	return answer(id, "error", with(error, "data", data));
}

json_t *control_progress(json_t *id, const char *text)
{
	json_t *params = with(json_object(), "id", id ? json_incref(id) : json_null());

	return control_notification("progress", with(params, "text", json_string(text)));
}

char *control_encode(json_t *message, size_t *ret_length)
{
	size_t length, written;
	char *line;

	length = json_dumpb(message, NULL, 0, JSON_COMPACT);
	if (length == 0)
		return NULL;
	line = malloc(length + 2);
	if (!line)
		return NULL;
	written = json_dumpb(message, line, length, JSON_COMPACT);
	line[written] = '\n';
	line[written + 1] = '\0';
	*ret_length = written + 1;
	return line;
}
