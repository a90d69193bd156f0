/* Lines, messages, and what hostile input does to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/codec.h"
#include "tests/unit/cmocka-all.h"

/* --- Lines ------------------------------------------------------------------------------------ */

struct stream {
	int fds[2];
	struct line_reader reader;
};

static void stream_open(struct stream *stream, size_t max)
{
	assert_int_equal(pipe(stream->fds), 0);
	stream->reader = LINE_READER(max);
}

static void stream_close(struct stream *stream)
{
	line_reader_deinit(&stream->reader);
	close(stream->fds[0]);
	close(stream->fds[1]);
}

static void feed(struct stream *stream, const char *bytes, size_t length)
{
	assert_int_equal(write(stream->fds[1], bytes, length), (ssize_t)length);
	for (size_t done = 0; done < length;) {
		ssize_t n = line_reader_fill(&stream->reader, stream->fds[0]);

		assert_true(n > 0);
		done += (size_t)n;
	}
}

static void expect_line(struct stream *stream, const char *expected)
{
	size_t length = 0;
	char *line;

	assert_int_equal(line_reader_next(&stream->reader, &line, &length), 1);
	assert_string_equal(line, expected);
	assert_int_equal(length, strlen(expected));
}

static void expect_no_line(struct stream *stream)
{
	size_t length;
	char *line;

	assert_int_equal(line_reader_next(&stream->reader, &line, &length), 0);
}

static void fragments_become_lines(void **state)
{
	static const char text[] = "{\"first\":1}\n\nthird\n";
	struct stream stream;

	stream_open(&stream, 100);
	for (size_t i = 0; i < strlen(text); i++) {
		feed(&stream, text + i, 1);
		if (text[i] != '\n')
			expect_no_line(&stream);
		else if (i == 11)
			expect_line(&stream, "{\"first\":1}");
		else
			expect_line(&stream, i == 12 ? "" : "third");
	}
	assert_false(line_reader_pending(&stream.reader));
	stream_close(&stream);
}

static void several_lines_come_at_once(void **state)
{
	struct stream stream;

	stream_open(&stream, 100);
	feed(&stream, "one\ntwo\nthr", 11);
	expect_line(&stream, "one");
	expect_line(&stream, "two");
	expect_no_line(&stream);
	assert_true(line_reader_pending(&stream.reader));
	feed(&stream, "ee\n", 3);
	expect_line(&stream, "three");
	stream_close(&stream);
}

/* @length bytes without a newline, in pieces that leave room in the pipe. */
static void feed_long(struct stream *stream, size_t length)
{
	char piece[512];

	memset(piece, 'x', sizeof(piece));
	for (size_t left = length; left > 0;) {
		size_t n = MIN(left, sizeof(piece));

		feed(stream, piece, n);
		left -= n;
	}
}

static void lines_are_bounded(void **state)
{
	struct stream stream;
	size_t length;
	char *line;

	stream_open(&stream, 10000);
	feed_long(&stream, 10000);
	expect_no_line(&stream);
	feed(&stream, "\n", 1);
	assert_int_equal(line_reader_next(&stream.reader, &line, &length), 1);
	assert_int_equal(length, 10000);

	feed_long(&stream, 10000);
	expect_no_line(&stream);
	feed(&stream, "x", 1);
	assert_int_equal(line_reader_next(&stream.reader, &line, &length), -EMSGSIZE);
	assert_true(stream.reader.capacity <= 10001);
	assert_int_equal(line_reader_fill(&stream.reader, stream.fds[0]), -EMSGSIZE);
	stream_close(&stream);
}

static void nul_bytes_do_not_end_a_line(void **state)
{
	struct stream stream;
	size_t length;
	char *line;

	stream_open(&stream, 100);
	feed(&stream, "a\0b\n", 4);
	assert_int_equal(line_reader_next(&stream.reader, &line, &length), 1);
	assert_int_equal(length, 3);
	assert_memory_equal(line, "a\0b", 4);
	stream_close(&stream);
}

static void taken_lines_are_wiped(void **state)
{
	struct stream stream;

	stream_open(&stream, 100);
	feed(&stream, "secret\n", 7);
	expect_line(&stream, "secret");
	feed(&stream, "x", 1);
	assert_null(memmem(stream.reader.buffer, stream.reader.capacity, "ecret", 5));
	stream_close(&stream);
}

/* --- Parsing ---------------------------------------------------------------------------------- */

static void parse(const char *text, struct control_message *message)
{
	control_parse(text, strlen(text), message);
}

static void requests_are_parsed(void **state)
{
	struct control_message message;

	parse("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"map\",\"params\":{\"image\":\"f\"}}",
	      &message);
	assert_int_equal(message.type, CONTROL_REQUEST);
	assert_int_equal(json_integer_value(message.id), 7);
	assert_string_equal(message.method, "map");
	assert_string_equal(json_string_value(json_object_get(message.params, "image")), "f");
	control_message_deinit(&message);

	parse("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"list\"}", &message);
	assert_int_equal(message.type, CONTROL_REQUEST);
	assert_null(message.params);
	control_message_deinit(&message);

	parse("{\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{}}", &message);
	assert_int_equal(message.type, CONTROL_NOTIFICATION);
	control_message_deinit(&message);
}

static void expect_malformed(const char *text, size_t length, int code, json_int_t id)
{
	struct control_message message;

	control_parse(text, length, &message);
	assert_int_equal(message.type, CONTROL_MALFORMED);
	assert_int_equal(message.code, code);
	assert_true(message.error.code < 0);
	assert_true(message.error.text[0] != '\0');
	assert_int_equal(json_integer_value(message.id), id);
	control_message_deinit(&message);
}

static void no_json_is_refused(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} inputs[] = {
		{ "", 0 },
		{ "nonsense", 8 },
		{ "{", 1 },
		{ "{\"a\":1}x", 8 },
		{ "{\"a\":1,\"a\":2}", 13 },
		{ "{\"a\":\"\xff\xfe\"}", 10 },
		{ "{\"a\":\"\xc0\x80\"}", 10 },	    /* an overlong NUL */
		{ "{\"a\":\"\xed\xa0\x80\"}", 11 }, /* half of a surrogate pair */
		{ "{\"a\":\"b\0c\"}", 11 },
		{ "{\"a\":1}\0", 8 },
		{ "{\"a\":\"b\\u0000c\"}", 16 },
		{ "{\"a\":99999999999999999999}", 26 },
		{ "{\"a\":1e999}", 11 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(inputs); i++)
		expect_malformed(inputs[i].text, inputs[i].length, CONTROL_PARSE_ERROR, 0);
}

static void no_message_is_refused(void **state)
{
	static const struct {
		const char *text;
		json_int_t id;
	} inputs[] = {
		{ "[]", 0 },
		{ "[{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"list\"}]", 0 },
		{ "{}", 0 },
		{ "{\"id\":3,\"method\":\"list\"}", 3 },
		{ "{\"jsonrpc\":\"1.0\",\"id\":3,\"method\":\"list\"}", 3 },
		{ "{\"jsonrpc\":2,\"id\":3,\"method\":\"list\"}", 3 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":3}", 3 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":4}", 3 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"a\",\"result\":1}", 3 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"list\"}", 0 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"list\"}", 0 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"list\"}", 0 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"list\",\"params\":[1]}", 3 },
		{ "{\"jsonrpc\":\"2.0\",\"result\":{}}", 0 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":\"no\"}", 3 },
		{ "{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":\"x\",\"message\":\"y\"}}",
		  3 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(inputs); i++)
		expect_malformed(inputs[i].text, strlen(inputs[i].text), CONTROL_INVALID_REQUEST,
				 inputs[i].id);
}

static void depth_is_bounded(void **state)
{
	char bomb[60000];

	assert_true(control_depth_ok("[[[[[[[[]]]]]]]]", 16, 8));
	assert_false(control_depth_ok("[[[[[[[[[]]]]]]]]]", 18, 8));
	assert_false(control_depth_ok("{\"a\":[{\"b\":[", 12, 3));
	assert_true(control_depth_ok("\"[[[[[[[[[[\"", 12, 1));
	assert_true(control_depth_ok("[\"\\\"[[[[\"]", 10, 1));
	assert_false(control_depth_ok("[\"\\\\\"[[", 7, 2));
	assert_true(control_depth_ok("[],[],[],[]", 11, 1));
	assert_true(control_depth_ok("\"\\", 2, 1));
	memset(bomb, '[', sizeof(bomb));
	expect_malformed(bomb, sizeof(bomb), CONTROL_PARSE_ERROR, 0);
	for (size_t i = 0; i < sizeof(bomb); i += 5)
		memcpy(bomb + i, "{\"a\":", 5);
	expect_malformed(bomb, sizeof(bomb), CONTROL_PARSE_ERROR, 0);
}

static void sentences_do_not_repeat_the_message(void **state)
{
	static const char text[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"params\":{\"key\":\"AQSECRET\"oops}}";
	struct control_message message;

	control_parse(text, strlen(text), &message);
	assert_int_equal(message.type, CONTROL_MALFORMED);
	assert_null(strstr(message.error.text, "SECRET"));
	control_message_deinit(&message);
}

/* --- There and back --------------------------------------------------------------------------- */

/* Encodes @built (taken) and parses that line. */
static void round_trip(json_t *built, struct control_message *message)
{
	size_t length = 0;
	char *line;

	assert_non_null(built);
	line = control_encode(built, &length);
	assert_non_null(line);
	assert_int_equal(strlen(line), length);
	assert_ptr_equal(strchr(line, '\n'), line + length - 1);
	control_parse(line, length - 1, message);
	free(line);
	json_decref(built);
}

static void built_calls_are_parsed(void **state)
{
	struct control_message message;
	json_t *id = json_string("a\nb");

	round_trip(control_request(5, "map", json_pack("{s:s}", "image", "line\nbreak")), &message);
	assert_int_equal(message.type, CONTROL_REQUEST);
	assert_int_equal(json_integer_value(message.id), 5);
	assert_string_equal(json_string_value(json_object_get(message.params, "image")),
			    "line\nbreak");
	control_message_deinit(&message);

	round_trip(control_progress(id, "opening"), &message);
	assert_int_equal(message.type, CONTROL_NOTIFICATION);
	assert_string_equal(message.method, "progress");
	assert_true(json_equal(json_object_get(message.params, "id"), id));
	control_message_deinit(&message);
	json_decref(id);
}

static void built_answers_are_parsed(void **state)
{
	struct control_message message;
	struct error err = ERROR_NONE;
	json_t *id = json_integer(9);

	round_trip(control_result(id, json_pack("{s:s}", "device", "/dev/ublkb0")), &message);
	assert_int_equal(message.type, CONTROL_RESULT);
	assert_true(json_equal(message.id, id));
	assert_non_null(json_object_get(message.result, "device"));
	control_message_deinit(&message);

	error_set(&err, -ENOENT, "there is no image foo");
	round_trip(control_error(id, CONTROL_FAILED, &err), &message);
	assert_int_equal(message.type, CONTROL_ERROR);
	assert_int_equal(message.code, CONTROL_FAILED);
	assert_int_equal(message.error.code, -ENOENT);
	assert_string_equal(message.error.text, "there is no image foo");
	control_message_deinit(&message);

	round_trip(control_error(NULL, CONTROL_PARSE_ERROR, &err), &message);
	assert_int_equal(message.type, CONTROL_ERROR);
	assert_true(json_is_null(message.id));
	control_message_deinit(&message);
	json_decref(id);
}

static void errors_without_errno_get_one(void **state)
{
	struct control_message message;

	parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"no\"}}",
	      &message);
	assert_int_equal(message.type, CONTROL_ERROR);
	assert_int_equal(message.error.code, -ENOSYS);
	control_message_deinit(&message);
	parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,\"message\":\"no\","
	      "\"data\":{\"errno\":\"ENONSENSE\"}}}",
	      &message);
	assert_int_equal(message.error.code, -EIO);
	control_message_deinit(&message);
}

static void cut_off_sentences_are_sent(void **state)
{
	struct control_message message;
	struct error err = ERROR_NONE;

	error_set(&err, -EIO, "half a character: \xc3");
	round_trip(control_error(NULL, CONTROL_FAILED, &err), &message);
	assert_int_equal(message.type, CONTROL_ERROR);
	assert_int_equal(message.error.code, -EIO);
	control_message_deinit(&message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fragments_become_lines),
		cmocka_unit_test(several_lines_come_at_once),
		cmocka_unit_test(lines_are_bounded),
		cmocka_unit_test(nul_bytes_do_not_end_a_line),
		cmocka_unit_test(taken_lines_are_wiped),
		cmocka_unit_test(requests_are_parsed),
		cmocka_unit_test(no_json_is_refused),
		cmocka_unit_test(no_message_is_refused),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(sentences_do_not_repeat_the_message),
		cmocka_unit_test(built_calls_are_parsed),
		cmocka_unit_test(built_answers_are_parsed),
		cmocka_unit_test(errors_without_errno_get_one),
		cmocka_unit_test(cut_off_sentences_are_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
