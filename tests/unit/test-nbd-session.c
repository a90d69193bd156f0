/* The NBD session: every option and command, what is malformed, back-pressure, and the end. */
#include "nbd/budget.h"
#include "tests/unit/cmocka-all.h"
#include "tests/unit/nbd-peer.h"

static struct peer peer;
static uint8_t message[PEER_IMAGE_SIZE + 64];

static int begin(void **state)
{
	struct nbd_session_config config;

	peer_init(&peer);
	config = peer_config(&peer, 8);
	return nbd_session_create(&config, &peer.session);
}

static int end(void **state)
{
	peer_end(&peer);
	assert_int_equal(peer.references, 0);
	assert_int_equal(peer.image.image.in_flight, 0);
	return 0;
}

static void feed(const void *bytes, size_t length)
{
	assert_int_equal(peer_feed(&peer, bytes, length), length);
}

static void forget_output(void)
{
	peer.output_length = 0;
}

static void send_client_flags(uint32_t flags)
{
	put_be32(message, flags);
	feed(message, 4);
}

static void greet(void)
{
	peer_run(&peer);
	assert_int_equal(peer.output_length, NBD_GREETING_SIZE);
	assert_int_equal(get_be64(peer.output), NBD_MAGIC_GREETING);
	assert_int_equal(get_be64(peer.output + 8), NBD_MAGIC_OPTION);
	assert_int_equal(get_be16(peer.output + 16), 3);
	send_client_flags(3);
	forget_output();
}

static void send_option(uint32_t option, const void *data, uint32_t length)
{
	uint8_t *at = put_be64(message, NBD_MAGIC_OPTION);

	at = put_be32(put_be32(at, option), length);
	at = put_bytes(at, data, length);
	feed(message, at - message);
}

/* Data of INFO and GO: a name and the infos 0..@infos-1. */
static size_t info_data(uint8_t *data, const char *name, unsigned infos)
{
	uint8_t *at = put_be32(data, strlen(name));

	at = put_be16(put_bytes(at, name, strlen(name)), infos);
	for (unsigned i = 0; i < infos; i++)
		at = put_be16(at, i);
	return at - data;
}

/* Checks the reply at *at and moves behind it; returns its data. */
static const uint8_t *next_reply(const uint8_t **at, uint32_t option, uint32_t reply)
{
	const uint8_t *data = *at + NBD_OPT_REPLY_SIZE;

	assert_true(data <= peer.output + peer.output_length);
	assert_int_equal(get_be64(*at), NBD_MAGIC_OPT_REPLY);
	assert_int_equal(get_be32(*at + 8), option);
	assert_int_equal(get_be32(*at + 12), reply);
	*at = data + get_be32(*at + 16);
	assert_true(*at <= peer.output + peer.output_length);
	return data;
}

/* The output is this one reply, and is forgotten. */
static void expect_reply(uint32_t option, uint32_t reply)
{
	const uint8_t *at = peer.output;

	next_reply(&at, option, reply);
	assert_ptr_equal(at, peer.output + peer.output_length);
	forget_output();
}

static void go(const char *name)
{
	uint8_t data[64];

	send_option(NBD_OPT_GO, data, info_data(data, name, 0));
	assert_int_equal(peer.events[NBD_EVENT_TRANSMIT], 1);
	forget_output();
}

static void structured(void)
{
	send_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
}

static void set_meta_context(const char *name, const char *query)
{
	uint8_t data[64], *at = put_be32(data, strlen(name));

	at = put_be32(put_bytes(at, name, strlen(name)), 1);
	at = put_bytes(put_be32(at, strlen(query)), query, strlen(query));
	send_option(NBD_OPT_SET_META_CONTEXT, data, at - data);
}

static uint8_t *put_request(uint8_t *at, uint16_t command, uint16_t flags, uint64_t offset,
			    uint32_t length)
{
	at = put_be32(at, NBD_MAGIC_REQUEST);
	at = put_be16(put_be16(at, flags), command);
	at = put_be64(at, 0x0123456789abcdef ^ offset);
	return put_be32(put_be64(at, offset), length);
}

static void send_request(uint16_t command, uint16_t flags, uint64_t offset, uint32_t length)
{
	uint8_t *at = put_request(message, command, flags, offset, length);

	if (command == NBD_CMD_WRITE) {
		memset(at, (int)(offset >> 9) + 1, length);
		at += length;
	}
	feed(message, at - message);
}

static void expect_simple(uint64_t offset, uint32_t error, size_t payload)
{
	assert_int_equal(peer.output_length, NBD_SIMPLE_REPLY_SIZE + payload);
	assert_int_equal(get_be32(peer.output), NBD_MAGIC_SIMPLE);
	assert_int_equal(get_be32(peer.output + 4), error);
	assert_int_equal(get_be64(peer.output + 8), 0x0123456789abcdef ^ offset);
	forget_output();
}

/* Sends a request and expects this error (or 0) in a simple reply. */
static void expect(uint16_t command, uint16_t flags, uint64_t offset, uint32_t length,
		   uint32_t error)
{
	send_request(command, flags, offset, length);
	expect_simple(offset, error, command == NBD_CMD_READ && error == NBD_SUCCESS ? length : 0);
}

static void expect_chunk(uint16_t type, uint32_t length)
{
	assert_int_equal(peer.output_length, NBD_STRUCTURED_REPLY_SIZE + length);
	assert_int_equal(get_be32(peer.output), NBD_MAGIC_STRUCTURED);
	assert_int_equal(get_be16(peer.output + 4), NBD_REPLY_FLAG_DONE);
	assert_int_equal(get_be16(peer.output + 6), type);
	assert_int_equal(get_be32(peer.output + 16), length);
}

static void expect_error_chunk(uint32_t error)
{
	assert_int_equal(get_be32(peer.output), NBD_MAGIC_STRUCTURED);
	assert_int_equal(get_be16(peer.output + 6), (uint16_t)NBD_REPLY_ERROR);
	assert_int_equal(get_be32(peer.output + 20), error);
	assert_int_equal(get_be32(peer.output + 16), 6 + get_be16(peer.output + 24));
	forget_output();
}

static void expect_closed(void)
{
	struct iovec window[2];

	assert_int_equal(peer.events[NBD_EVENT_CLOSE], 1);
	assert_int_equal(nbd_session_window(peer.session, window), 0);
	assert_int_equal(nbd_session_in_flight(peer.session), 0);
}

static void unknown_client_flags_close(void **state)
{
	send_client_flags(7);
	expect_closed();
}

static void export_name_sends_zeroes_unless_told(void **state)
{
	send_client_flags(1);
	forget_output();
	send_option(NBD_OPT_EXPORT_NAME, "disk", 4);
	assert_int_equal(peer.output_length, 10 + NBD_EXPORT_NAME_ZEROES);
	assert_int_equal(get_be64(peer.output), PEER_IMAGE_SIZE);
	assert_int_equal(get_be16(peer.output + 8),
			 NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
				 NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
				 NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE |
				 NBD_FLAG_CAN_MULTI_CONN);
	forget_output();
	expect(NBD_CMD_READ, 0, 0, 512, NBD_SUCCESS);
}

static void plain_newstyle_knows_export_name_alone(void **state)
{
	send_client_flags(NBD_HANDSHAKE_NO_ZEROES);
	forget_output();
	send_option(NBD_OPT_EXPORT_NAME, "frozen", 6);
	assert_int_equal(peer.output_length, 10);
	forget_output();
	expect(NBD_CMD_WRITE, 0, 0, 512, NBD_EPERM);
}

static void plain_newstyle_closes_on_other_options(void **state)
{
	send_client_flags(0);
	send_option(NBD_OPT_LIST, NULL, 0);
	expect_closed();
}

static void unknown_export_name_closes(void **state)
{
	greet();
	send_option(NBD_OPT_EXPORT_NAME, "none", 4);
	expect_closed();
	assert_int_equal(peer.output_length, 0);
}

static void info_tells_all_that_was_asked(void **state)
{
	const uint8_t *at = peer.output, *data;
	uint8_t name[64];

	greet();
	send_option(NBD_OPT_INFO, name, info_data(name, "disk", 4));
	data = next_reply(&at, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(get_be16(data), NBD_INFO_EXPORT);
	assert_int_equal(get_be64(data + 2), PEER_IMAGE_SIZE);
	data = next_reply(&at, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(get_be16(data), NBD_INFO_NAME);
	assert_memory_equal(data + 2, "disk", 4);
	data = next_reply(&at, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(get_be16(data), NBD_INFO_DESCRIPTION);
	assert_memory_equal(data + 2, "a disk", 6);
	data = next_reply(&at, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(get_be16(data), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(get_be32(data + 2), 512);
	assert_int_equal(get_be32(data + 6), 4096);
	assert_int_equal(get_be32(data + 10), NBD_PAYLOAD_MIN);
	next_reply(&at, NBD_OPT_INFO, NBD_REP_ACK);
	assert_ptr_equal(at, peer.output + peer.output_length);
	assert_int_equal(peer.events[NBD_EVENT_TRANSMIT], 0);
}

static void info_refuses_what_is_malformed(void **state)
{
	uint8_t data[64];
	size_t length = info_data(data, "disk", 2);

	greet();
	for (size_t cut = 0; cut < length; cut++) {
		send_option(NBD_OPT_INFO, data, cut);
		expect_reply(NBD_OPT_INFO, NBD_REP_ERR_INVALID);
	}
	put_be32(data, UINT32_MAX);
	send_option(NBD_OPT_GO, data, length);
	expect_reply(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	send_option(NBD_OPT_GO, data, info_data(data, "none", 0));
	expect_reply(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	go("");
}

static void list_names_every_export(void **state)
{
	const uint8_t *at = peer.output, *data;

	greet();
	send_option(NBD_OPT_LIST, NULL, 0);
	data = next_reply(&at, NBD_OPT_LIST, NBD_REP_SERVER);
	assert_int_equal(get_be32(data), 4);
	assert_memory_equal(data + 4, "disk", 4);
	next_reply(&at, NBD_OPT_LIST, NBD_REP_SERVER);
	next_reply(&at, NBD_OPT_LIST, NBD_REP_ACK);
	assert_ptr_equal(at, peer.output + peer.output_length);
	forget_output();
	send_option(NBD_OPT_LIST, "x", 1);
	expect_reply(NBD_OPT_LIST, NBD_REP_ERR_INVALID);
}

/* Names so long that their list does not fit the output at once. */
static void a_long_list_goes_out_in_parts(void **state)
{
	static char names[2][NBD_STRING_MAX + 1];
	const uint8_t *at = peer.output;

	for (unsigned i = 0; i < 2; i++) {
		memset(names[i], 'n', NBD_STRING_MAX);
		names[i][NBD_STRING_MAX - 1] = 'a' + i;
		peer.exports[i].name = names[i];
	}
	greet();
	peer.piece = 1000;
	for (unsigned i = 0; i < 3; i++) {
		send_option(NBD_OPT_LIST, NULL, 0);
		next_reply(&at, NBD_OPT_LIST, NBD_REP_SERVER);
		next_reply(&at, NBD_OPT_LIST, NBD_REP_SERVER);
		next_reply(&at, NBD_OPT_LIST, NBD_REP_ACK);
	}
	assert_ptr_equal(at, peer.output + peer.output_length);
}

static void unknown_and_huge_options_are_answered(void **state)
{
	static uint8_t data[100000];

	greet();
	send_option(NBD_OPT_STARTTLS, NULL, 0);
	expect_reply(NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
	send_option(11, NULL, 0); /* EXTENDED_HEADERS */
	expect_reply(11, NBD_REP_ERR_UNSUP);
	send_option(4711, "abc", 3);
	expect_reply(4711, NBD_REP_ERR_UNSUP);
	send_option(NBD_OPT_INFO, data, sizeof(data));
	expect_reply(NBD_OPT_INFO, NBD_REP_ERR_TOO_BIG);
	send_option(4711, data, sizeof(data));
	expect_reply(4711, NBD_REP_ERR_UNSUP);
	send_option(NBD_OPT_ABORT, data, sizeof(data));
	expect_reply(NBD_OPT_ABORT, NBD_REP_ACK);
	expect_closed();
}

static void a_wrong_option_magic_closes(void **state)
{
	greet();
	put_be64(message, 1);
	feed(message, NBD_OPTION_SIZE);
	expect_closed();
}

static void endless_option_data_closes(void **state)
{
	uint8_t *at = put_be64(message, NBD_MAGIC_OPTION);

	greet();
	put_be32(put_be32(at, NBD_OPT_INFO), UINT32_MAX);
	feed(message, NBD_OPTION_SIZE);
	expect_closed();
}

static void a_huge_export_name_closes(void **state)
{
	static uint8_t data[100000];

	greet();
	send_option(NBD_OPT_EXPORT_NAME, data, sizeof(data));
	expect_closed();
	assert_int_equal(peer.output_length, 0);
}

static int begin_tls(void **state)
{
	struct nbd_session_config config;

	peer_init(&peer);
	config = peer_config(&peer, 8);
	config.tls = NBD_TLS_REQUIRED;
	return nbd_session_create(&config, &peer.session);
}

static void tls_required_refuses_the_rest(void **state)
{
	static uint8_t huge[100000];
	struct iovec window[2];
	uint8_t data[64];

	greet();
	send_option(NBD_OPT_LIST, NULL, 0);
	expect_reply(NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD);
	send_option(NBD_OPT_GO, data, info_data(data, "disk", 0));
	expect_reply(NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
	send_option(4711, NULL, 0);
	expect_reply(4711, NBD_REP_ERR_TLS_REQD);
	send_option(NBD_OPT_INFO, huge, sizeof(huge));
	expect_reply(NBD_OPT_INFO, NBD_REP_ERR_TLS_REQD);
	send_option(NBD_OPT_STARTTLS, NULL, 0);
	expect_reply(NBD_OPT_STARTTLS, NBD_REP_ACK);
	assert_int_equal(peer.events[NBD_EVENT_START_TLS], 1);
	assert_int_equal(nbd_session_window(peer.session, window), 0);
	assert_string_equal(nbd_session_refusal(peer.session), "it did not ask for TLS");
	nbd_session_tls_started(peer.session);
	assert_null(nbd_session_refusal(peer.session));
	send_option(NBD_OPT_STARTTLS, NULL, 0);
	expect_reply(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	go("disk");
	expect(NBD_CMD_READ, 0, 0, 512, NBD_SUCCESS);
}

static void starttls_has_no_data(void **state)
{
	const uint8_t *at = peer.output, *text;

	greet();
	send_option(NBD_OPT_STARTTLS, "now", 3);
	text = next_reply(&at, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	assert_memory_equal(text, "the option's data", 17);
	forget_output();
	send_option(NBD_OPT_STARTTLS, NULL, 0);
	expect_reply(NBD_OPT_STARTTLS, NBD_REP_ACK);
}

static void tls_required_closes_on_export_name(void **state)
{
	greet();
	send_option(NBD_OPT_EXPORT_NAME, "disk", 4);
	expect_closed();
	assert_int_equal(peer.output_length, 0);
}

/* Somebody in between may have put options behind STARTTLS, to be obeyed after it. */
static void bytes_behind_starttls_close(void **state)
{
	uint8_t *at = message;

	greet();
	for (unsigned i = 0; i < 2; i++) {
		at = put_be64(at, NBD_MAGIC_OPTION);
		at = put_be32(put_be32(at, i ? NBD_OPT_LIST : NBD_OPT_STARTTLS), 0);
	}
	feed(message, at - message);
	expect_closed();
}

static void data_written_is_read_back(void **state)
{
	const size_t pieces[] = { SIZE_MAX, 4096, 1000, 29, 1 };

	greet();
	go("disk");
	for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
		uint64_t offset = 8192 * i;

		peer.piece = pieces[i];
		expect(NBD_CMD_WRITE, 0, offset, 5120, NBD_SUCCESS);
		send_request(NBD_CMD_READ, 0, offset, 5120);
		assert_int_equal(peer.output[NBD_SIMPLE_REPLY_SIZE], (uint8_t)((offset >> 9) + 1));
		assert_int_equal(peer.output[NBD_SIMPLE_REPLY_SIZE + 5119],
				 (uint8_t)((offset >> 9) + 1));
		expect_simple(offset, NBD_SUCCESS, 5120);
	}
}

/* Writes and reads back to back, so that what is received for one runs on into the next. */
static void messages_may_run_together(void **state)
{
	const size_t pieces[] = { SIZE_MAX, 6000, 2000, 777 };
	uint8_t *at = message;

	greet();
	go("disk");
	for (unsigned i = 0; i < 6; i++) {
		at = put_request(at, NBD_CMD_WRITE, 0, i * 8192, 2048 + i * 512);
		memset(at, i + 1, 2048 + i * 512);
		at = put_request(at + 2048 + i * 512, NBD_CMD_READ, 0, i * 8192, 512);
	}
	for (unsigned p = 0; p < ARRAY_SIZE(pieces); p++) {
		peer.piece = pieces[p];
		memset(peer.image.bytes, 0, PEER_IMAGE_SIZE);
		feed(message, at - message);
		assert_int_equal(peer.output_length, 6 * (2 * NBD_SIMPLE_REPLY_SIZE + 512));
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(peer.image.bytes[i * 8192], i + 1);
			assert_int_equal(peer.image.bytes[i * 8192 + 2047 + i * 512], i + 1);
			assert_int_equal(peer.image.bytes[i * 8192 + 2048 + i * 512], 0);
		}
		forget_output();
	}
}

static void payloads_larger_than_a_slot_take_turns(void **state)
{
	greet();
	go("disk");
	expect(NBD_CMD_WRITE, 0, 0, 3u << 20, NBD_SUCCESS);
	expect(NBD_CMD_READ, 0, 0, 4u << 20, NBD_SUCCESS);
	peer.image.hold = true;
	put_request(put_request(put_request(message, NBD_CMD_READ, 0, 0, 2u << 20), NBD_CMD_READ, 0,
				4096, 2u << 20),
		    NBD_CMD_READ, 0, 0, 512);
	feed(message, 3 * NBD_REQUEST_SIZE);
	assert_int_equal(nbd_session_in_flight(peer.session), 1);
	peer_release(&peer);
	assert_int_equal(peer.output_length, 3 * NBD_SIMPLE_REPLY_SIZE + (4u << 20) + 512);
}

static unsigned trim_all(void)
{
	unsigned pieces = 0;
	size_t position = 0;

	while ((position = nbd_session_trim(peer.session, position)) > 0)
		pieces++;
	return pieces;
}

/* A write of 64 KiB whose second half has not come, a request at the image, a reply not sent. */
static void buffers_in_use_are_not_trimmed(void **state)
{
	uint8_t *at;

	assert_int_equal(nbd_session_trim(peer.session, 0), 0);
	greet();
	go("disk");
	at = put_request(message, NBD_CMD_WRITE, 0, 0, 65536);
	memset(at, 'x', 65536);
	feed(message, NBD_REQUEST_SIZE + 32768);
	assert_int_equal(trim_all(), 0);
	peer.image.hold = true;
	feed(at + 32768, 32768);
	assert_int_equal(trim_all(), 0);
	peer.no_reader = true;
	peer_release(&peer);
	assert_int_equal(trim_all(), 0);
	peer.no_reader = false;
	peer_run(&peer);
	expect_simple(0, NBD_SUCCESS, 0);
	assert_true(trim_all() > 1);
	assert_int_equal(peer.image.bytes[0], 'x');
	assert_int_equal(peer.image.bytes[65535], 'x');
	expect(NBD_CMD_READ, 0, 0, 65536, NBD_SUCCESS);
}

static void flags_reach_the_image(void **state)
{
	greet();
	go("disk");
	expect(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512, NBD_SUCCESS);
	assert_int_equal(peer.image.last_flags, REQUEST_FUA);
	expect(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_SUCCESS);
	assert_int_equal(peer.image.last_flags, REQUEST_NOUNMAP);
	expect(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 512, NBD_ENOTSUP);
	peer.image.image.info.fast_zero = true;
	expect(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 512, NBD_SUCCESS);
	assert_int_equal(peer.image.last_flags, REQUEST_FAST_ZERO);
	peer.image.fail = -EOPNOTSUPP;
	expect(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 512, NBD_ENOTSUP);
	expect(NBD_CMD_WRITE_ZEROES, 0, 0, 512, NBD_EINVAL);
	peer.image.fail = 0;
	expect(NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 512, NBD_SUCCESS);
	expect(NBD_CMD_CACHE, 0, 0, 512, NBD_SUCCESS);
	expect(NBD_CMD_FLUSH, 0, 0, 0, NBD_SUCCESS);
	assert_int_equal(peer.image.ops[REQUEST_FLUSH], 1);
}

static void a_trim_with_fua_flushes(void **state)
{
	greet();
	go("disk");
	expect(NBD_CMD_TRIM, 0, 4096, 4096, NBD_SUCCESS);
	assert_int_equal(peer.image.ops[REQUEST_FLUSH], 0);
	expect(NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 4096, 4096, NBD_SUCCESS);
	assert_int_equal(peer.image.ops[REQUEST_DISCARD], 2);
	assert_int_equal(peer.image.ops[REQUEST_FLUSH], 1);
}

static void long_commands_are_served_in_pieces(void **state)
{
	greet();
	go("disk");
	memset(peer.image.bytes, 0xff, PEER_IMAGE_SIZE);
	expect(NBD_CMD_WRITE_ZEROES, 0, 512, PEER_IMAGE_SIZE - 512, NBD_SUCCESS);
	assert_int_equal(peer.image.ops[REQUEST_WRITE_ZEROES], 4);
	assert_int_equal(peer.image.bytes[511], 0xff);
	for (size_t i = 512; i < PEER_IMAGE_SIZE; i++)
		assert_int_equal(peer.image.bytes[i], 0);
	expect(NBD_CMD_TRIM, 0, 0, PEER_IMAGE_SIZE, NBD_SUCCESS);
	assert_int_equal(peer.image.ops[REQUEST_DISCARD], 4);
	peer.image.fail = -EIO;
	expect(NBD_CMD_TRIM, 0, 0, PEER_IMAGE_SIZE, NBD_EIO);
	assert_int_equal(peer.image.ops[REQUEST_DISCARD], 5);
}

static void bad_requests_get_the_protocols_errors(void **state)
{
	greet();
	go("disk");
	expect(NBD_CMD_READ, 0, PEER_IMAGE_SIZE, 512, NBD_EINVAL);
	expect(NBD_CMD_READ, 0, UINT64_MAX - 511, 512, NBD_EINVAL);
	expect(NBD_CMD_READ, 0, 0, 0, NBD_EINVAL);
	expect(NBD_CMD_READ, 0, 1, 512, NBD_EINVAL);
	expect(NBD_CMD_READ, 0, 0, 513, NBD_EINVAL);
	expect(NBD_CMD_READ, 0, 0, UINT32_MAX - 511, NBD_EINVAL);
	expect(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL); /* needs structured replies */
	expect(NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL);
	expect(NBD_CMD_READ, 1 << 15, 0, 512, NBD_EINVAL);
	expect(NBD_CMD_WRITE, 0, PEER_IMAGE_SIZE - 512, 1024, NBD_ENOSPC);
	expect(NBD_CMD_WRITE, NBD_CMD_FLAG_DF, 0, 1024, NBD_EINVAL);
	expect(NBD_CMD_WRITE, 0, 0, 0, NBD_EINVAL);
	expect(NBD_CMD_WRITE, 0, 0, 1000, NBD_EINVAL);
	expect(NBD_CMD_WRITE_ZEROES, 0, PEER_IMAGE_SIZE, 512, NBD_ENOSPC);
	expect(NBD_CMD_TRIM, 0, PEER_IMAGE_SIZE, 512, NBD_EINVAL);
	expect(NBD_CMD_FLUSH, 0, 0, 512, NBD_EINVAL);
	expect(NBD_CMD_CACHE, 0, PEER_IMAGE_SIZE, 512, NBD_EINVAL);
	expect(NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL); /* no context */
	expect(8, 0, 0, 512, NBD_EINVAL);
	expect(UINT16_MAX, 0, 0, 512, NBD_EINVAL);
	assert_int_equal(peer.events[NBD_EVENT_SUBMIT], 0);
	expect(NBD_CMD_READ, 0, 0, 512, NBD_SUCCESS);
}

static void errors_of_the_image_are_translated(void **state)
{
	static const int errors[][2] = {
		{ EPERM, NBD_EPERM },	{ EROFS, NBD_EPERM },	      { EIO, NBD_EIO },
		{ ENOMEM, NBD_ENOMEM }, { ENOSPC, NBD_ENOSPC },	      { EDQUOT, NBD_ENOSPC },
		{ EFBIG, NBD_ENOSPC },	{ EINVAL, NBD_EINVAL },	      { ETIMEDOUT, NBD_EIO },
		{ EXDEV, NBD_EIO },	{ ESHUTDOWN, NBD_ESHUTDOWN },
	};

	greet();
	go("disk");
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		peer.image.fail = -errors[i][0];
		expect(NBD_CMD_READ, 0, 0, 512, errors[i][1]);
	}
}

static void a_read_only_export_refuses_writes(void **state)
{
	greet();
	go("frozen");
	expect(NBD_CMD_WRITE, 0, 0, 4096, NBD_EPERM);
	expect(NBD_CMD_WRITE_ZEROES, 0, 0, 4096, NBD_EPERM);
	expect(NBD_CMD_TRIM, 0, 0, 4096, NBD_EPERM);
	expect(NBD_CMD_FLUSH, 0, 0, 0, NBD_SUCCESS);
	expect(NBD_CMD_READ, 0, 0, 4096, NBD_SUCCESS);
}

static void structured_reads_come_in_one_chunk(void **state)
{
	greet();
	structured();
	go("disk");
	expect(NBD_CMD_WRITE, 0, 1024, 1024, NBD_SUCCESS);
	send_request(NBD_CMD_READ, NBD_CMD_FLAG_DF, 1024, 1024);
	expect_chunk(NBD_REPLY_OFFSET_DATA, 8 + 1024);
	assert_int_equal(get_be64(peer.output + 20), 1024);
	assert_int_equal(peer.output[28], 3);
	forget_output();
	send_request(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, NBD_PAYLOAD_MIN);
	expect_chunk(NBD_REPLY_OFFSET_DATA, 8 + NBD_PAYLOAD_MIN);
	forget_output();
	send_request(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, NBD_PAYLOAD_MIN + 512);
	expect_error_chunk(NBD_EOVERFLOW);
	send_request(NBD_CMD_READ, 0, PEER_IMAGE_SIZE, 512);
	expect_error_chunk(NBD_EINVAL);
	peer.image.image.info.size = 1u << 30;
	send_request(NBD_CMD_READ, 0, 0, NBD_PAYLOAD_DEFAULT + 512);
	expect_error_chunk(NBD_EOVERFLOW);
	peer.image.fail = -EIO;
	send_request(NBD_CMD_READ, 0, 0, 512);
	expect_error_chunk(NBD_EIO);
}

static void fill_image(void)
{
	for (size_t i = 0; i < PEER_IMAGE_SIZE; i += 4)
		put_be32(peer.image.bytes + i, i);
}

/* Checks the chunk at *at, of what is at @offset, and moves behind it. */
static void next_data(const uint8_t **at, bool last, uint64_t offset, uint32_t length)
{
	const uint8_t *data = *at + NBD_STRUCTURED_REPLY_SIZE + 8;

	assert_true(data + length <= peer.output + peer.output_length);
	assert_int_equal(get_be32(*at), NBD_MAGIC_STRUCTURED);
	assert_int_equal(get_be16(*at + 4), last ? NBD_REPLY_FLAG_DONE : 0);
	assert_int_equal(get_be16(*at + 6), NBD_REPLY_OFFSET_DATA);
	assert_int_equal(get_be32(*at + 16), 8 + length);
	assert_int_equal(get_be64(*at + 20), offset);
	assert_memory_equal(data, peer.image.bytes + offset, length);
	*at = data + length;
}

/* Each chunk bears as much as clients were told; what waits meanwhile goes between them. */
static void a_large_structured_read_comes_in_chunks(void **state)
{
	const uint32_t part = NBD_PAYLOAD_MIN;
	const size_t pieces[] = { SIZE_MAX, 65536, 1000 };

	greet();
	structured();
	go("disk");
	fill_image();
	for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
		const uint8_t *at = peer.output;

		peer.piece = pieces[i];
		peer.no_reader = true;
		put_request(put_request(message, NBD_CMD_READ, 0, 1024, 2 * part + 512),
			    NBD_CMD_READ, 0, 4096, 512);
		feed(message, 2 * NBD_REQUEST_SIZE);
		assert_false(nbd_session_at_rest(peer.session));
		peer.no_reader = false;
		peer_run(&peer);
		next_data(&at, false, 1024, part);
		next_data(&at, true, 4096, 512);
		next_data(&at, false, 1024 + part, part);
		next_data(&at, true, 1024 + 2 * part, 512);
		assert_ptr_equal(at, peer.output + peer.output_length);
		assert_true(nbd_session_at_rest(peer.session));
		forget_output();
	}
}

static void meta_contexts_need_structured_replies(void **state)
{
	greet();
	set_meta_context("disk", "base:allocation");
	expect_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	structured();
	set_meta_context("none", "base:allocation");
	expect_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
	set_meta_context("disk", "qemu:dirty-bitmap");
	expect_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	set_meta_context("disk", "base:");
	expect_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	go("disk");
	send_request(NBD_CMD_BLOCK_STATUS, 0, 0, 65536);
	expect_error_chunk(NBD_EINVAL);
}

/* Else a client that dawdles in the handshake would keep an export from being removed. */
static void handshake_holds_no_export(void **state)
{
	greet();
	structured();
	set_meta_context("frozen", "base:allocation");
	assert_int_equal(peer.references, 0);
	send_option(NBD_OPT_LIST, NULL, 0);
	assert_int_equal(peer.references, 0);
	forget_output();
	go("disk");
	assert_int_equal(peer.references, 1);
	send_request(NBD_CMD_BLOCK_STATUS, 0, 0, 65536);
	expect_error_chunk(NBD_EINVAL);
}

static void list_meta_context_lists(void **state)
{
	static const uint8_t all[12] = { 0, 0, 0, 4, 'd', 'i', 's', 'k' };
	const uint8_t *at = peer.output, *data;

	greet();
	structured();
	send_option(NBD_OPT_LIST_META_CONTEXT, all, sizeof(all));
	data = next_reply(&at, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT);
	assert_memory_equal(data + 4, "base:allocation", 15);
	next_reply(&at, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	forget_output();
	send_option(NBD_OPT_SET_META_CONTEXT, all, sizeof(all));
	expect_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	send_option(NBD_OPT_SET_META_CONTEXT, all, sizeof(all) - 1);
	expect_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
}

static void begin_block_status(void)
{
	greet();
	structured();
	set_meta_context("disk", "base:allocation");
	forget_output();
	go("disk");
}

static void block_status_tells_data_from_holes(void **state)
{
	begin_block_status();
	send_request(NBD_CMD_BLOCK_STATUS, 0, 4096, 131072);
	expect_chunk(NBD_REPLY_BLOCK_STATUS, 4 + 3 * 8);
	assert_int_equal(get_be32(peer.output + 24), 65536 - 4096);
	assert_int_equal(get_be32(peer.output + 28), 0);
	assert_int_equal(get_be32(peer.output + 32), 65536);
	assert_int_equal(get_be32(peer.output + 36), NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_int_equal(get_be32(peer.output + 40), 4096);
	forget_output();
	send_request(NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, 131072);
	expect_chunk(NBD_REPLY_BLOCK_STATUS, 4 + 8);
	assert_int_equal(get_be32(peer.output + 24), 65536);
}

static void block_status_without_extents_is_all_data(void **state)
{
	begin_block_status();
	peer.image.fail = -EOPNOTSUPP;
	for (unsigned i = 0; i < 2; i++) {
		send_request(NBD_CMD_BLOCK_STATUS, 0, 0, 131072);
		expect_chunk(NBD_REPLY_BLOCK_STATUS, 4 + 8);
		assert_int_equal(get_be32(peer.output + 24), 131072);
		assert_int_equal(get_be32(peer.output + 28), 0);
		forget_output();
		peer.image.image.info.extents = false;
	}
}

static void a_context_counts_for_its_export_alone(void **state)
{
	greet();
	structured();
	set_meta_context("frozen", "base:allocation");
	forget_output();
	go("disk");
	send_request(NBD_CMD_BLOCK_STATUS, 0, 0, 65536);
	expect_error_chunk(NBD_EINVAL);
}

/* What comes behind an option is taken in when its answer has gone: only then it is known where
 * it belongs. */
static void an_answer_that_waits_stops_the_input(void **state)
{
	struct iovec window[2];

	greet();
	peer.no_reader = true;
	send_option(NBD_OPT_LIST, NULL, 0);
	assert_int_equal(nbd_session_window(peer.session, window), 0);
	assert_false(nbd_session_at_rest(peer.session));
	peer.no_reader = false;
	peer_run(&peer);
	assert_int_equal(nbd_session_window(peer.session, window), 1);
	assert_false(nbd_session_at_rest(peer.session));
}

/* The eighth request empties the pool; the ninth has to wait until a reply has gone. */
static void an_empty_pool_stops_the_input(void **state)
{
	uint8_t *at = message;
	struct iovec window[2];

	greet();
	go("disk");
	peer.image.hold = true;
	for (unsigned i = 0; i < 20; i++)
		at = put_request(at, NBD_CMD_READ, 0, 0, 4096);
	peer.piece = NBD_REQUEST_SIZE;
	assert_int_equal(peer_feed(&peer, message, at - message), 8 * NBD_REQUEST_SIZE);
	assert_int_equal(nbd_session_in_flight(peer.session), 8);
	peer.no_reader = true;
	peer_release(&peer);
	assert_int_equal(nbd_session_in_flight(peer.session), 0);
	assert_int_equal(nbd_session_window(peer.session, window), 0);
	assert_false(nbd_session_at_rest(peer.session));
	peer.no_reader = false;
	peer.piece = SIZE_MAX;
	peer_run(&peer);
	assert_int_equal(nbd_session_window(peer.session, window), 1);
	assert_true(nbd_session_at_rest(peer.session));
	assert_int_equal(peer.output_length, 8 * (NBD_SIMPLE_REPLY_SIZE + 4096));
}

/* The same with all requests in one packet: those that wait in the input go on by themselves. */
static void requests_in_the_input_go_on(void **state)
{
	uint8_t *at = message;

	greet();
	go("disk");
	peer.image.hold = true;
	for (unsigned i = 0; i < 20; i++)
		at = put_request(at, NBD_CMD_READ, 0, 0, 512);
	feed(message, at - message);
	assert_int_equal(nbd_session_in_flight(peer.session), 8);
	peer_release(&peer);
	assert_int_equal(peer.output_length, 20 * (NBD_SIMPLE_REPLY_SIZE + 512));
}

/* Much came at once, before requests were expected; then replies go, and slots are free again. */
static void a_full_input_has_no_room(void **state)
{
	struct iovec window[2], reply[2];
	unsigned count;
	uint8_t *at;

	greet();
	at = put_be32(put_be64(message, NBD_MAGIC_OPTION), NBD_OPT_EXPORT_NAME);
	at = put_bytes(put_be32(at, 4), "disk", 4);
	for (unsigned i = 0; i < 2000; i++)
		at = put_request(at, NBD_CMD_READ, 0, 0, 512);
	peer.no_reader = true;
	feed(message, at - message);
	while ((count = nbd_session_output(peer.session, reply, 2)) > 0)
		for (unsigned i = 0; i < count; i++)
			nbd_session_sent(peer.session, reply[i].iov_len);
	assert_int_equal(nbd_session_window(peer.session, window), 0);
	peer.no_reader = false;
	peer_run(&peer);
	assert_int_equal(nbd_session_window(peer.session, window), 1);
	assert_int_equal(peer.output_length, (2000 - 8) * (NBD_SIMPLE_REPLY_SIZE + 512));
}

static void disconnect_answers_what_is_in_flight(void **state)
{
	greet();
	go("disk");
	peer.image.hold = true;
	send_request(NBD_CMD_READ, 0, 0, 512);
	send_request(NBD_CMD_DISC, 0, 0, 0);
	assert_int_equal(peer.events[NBD_EVENT_CLOSE], 1);
	assert_int_equal(nbd_session_in_flight(peer.session), 1);
	peer_release(&peer);
	expect_simple(0, NBD_SUCCESS, 512);
	expect_closed();
}

static void an_abandoned_session_keeps_its_buffers_until_completion(void **state)
{
	greet();
	go("disk");
	peer.image.hold = true;
	send_request(NBD_CMD_WRITE, 0, 0, 4096);
	send_request(NBD_CMD_TRIM, 0, 0, PEER_IMAGE_SIZE);
	nbd_session_abandon(peer.session);
	peer_run(&peer);
	assert_int_equal(nbd_session_in_flight(peer.session), 2);
	peer_release(&peer);
	expect_closed();
	assert_int_equal(peer.output_length, 0);
	assert_int_equal(peer.image.bytes[4095], 1);
	assert_int_equal(peer.image.ops[REQUEST_DISCARD], 1);
}

/* Another member of the session's budget, which holds as much as the test wants. */
static struct nbd_budget budget;
static struct nbd_budget_member other;
static unsigned woken;

static void wake(void *data)
{
	woken++;
}

static void nothing(struct nbd_budget_member *member)
{
}

static int begin_in_budget(void **state)
{
	struct nbd_session_config config;

	nbd_budget_init(&budget, NBD_PAYLOAD_DEFAULT);
	other = (struct nbd_budget_member){ .give_back = nothing, .come = nothing };
	nbd_budget_join(&budget, &other);
	woken = 0;
	peer_init(&peer);
	config = peer_config(&peer, 8);
	config.budget = &budget;
	config.wake = wake;
	return nbd_session_create(&config, &peer.session);
}

static int end_in_budget(void **state)
{
	nbd_budget_leave(&other);
	end(state);
	assert_int_equal(budget.used, 0);
	assert_true(list_empty(&budget.members) && list_empty(&budget.line));
	return 0;
}

/* All but what the session has for sure is taken. */
static void take_all(void)
{
	assert_true(nbd_budget_take(&other, NBD_PAYLOAD_DEFAULT + NBD_BUDGET_SURE));
}

static void a_request_without_memory_waits(void **state)
{
	struct iovec window[2];

	greet();
	go("disk");
	take_all();
	peer.image.hold = true;
	put_request(put_request(put_request(message, NBD_CMD_READ, 0, 0, 1u << 20), NBD_CMD_FLUSH,
				0, 0, 0),
		    NBD_CMD_READ, 0, 0, 512);
	feed(message, 3 * NBD_REQUEST_SIZE);
	assert_int_equal(nbd_session_in_flight(peer.session), 2);
	assert_int_equal(nbd_session_window(peer.session, window), 0);
	assert_false(nbd_session_at_rest(peer.session));
	nbd_budget_give(&other, 4096);
	assert_int_equal(woken, 2); /* when the line began, and now */
	peer_run(&peer);
	assert_int_equal(nbd_session_in_flight(peer.session), 3);
	assert_int_equal(nbd_session_window(peer.session, window), 1);
	peer_release(&peer);
	assert_int_equal(peer.output_length, 3 * NBD_SIMPLE_REPLY_SIZE + (1u << 20) + 512);
}

/* The session's own replies bring back what it waits for: it needs nobody else. */
static void one_request_at_a_time_always_goes(void **state)
{
	greet();
	go("disk");
	take_all();
	for (unsigned i = 0; i < 20; i++)
		put_request(message + i * NBD_REQUEST_SIZE, NBD_CMD_READ, 0, 0, 1u << 20);
	feed(message, 20 * NBD_REQUEST_SIZE);
	assert_int_equal(peer.output_length, 20 * (NBD_SIMPLE_REPLY_SIZE + (1u << 20)));
}

static void idle_buffers_are_given_back(void **state)
{
	greet();
	go("disk");
	for (unsigned i = 0; i < 8; i++)
		put_request(message + i * NBD_REQUEST_SIZE, NBD_CMD_READ, 0, 0, 1u << 20);
	peer.image.hold = true;
	feed(message, 8 * NBD_REQUEST_SIZE);
	peer_release(&peer);
	forget_output();
	expect(NBD_CMD_READ, 0, 0, 4u << 20, NBD_SUCCESS);
	assert_int_equal(budget.used, 11u << 20);
	take_all();
	assert_int_equal(budget.used, NBD_PAYLOAD_DEFAULT);
	expect(NBD_CMD_WRITE, 0, 0, 1u << 20, NBD_SUCCESS);
	expect(NBD_CMD_READ, 0, 0, 1u << 20, NBD_SUCCESS);
}

static void the_end_of_a_session_leaves_the_line(void **state)
{
	greet();
	go("disk");
	take_all();
	put_request(message, NBD_CMD_READ, 0, 0, 2u << 20);
	feed(message, NBD_REQUEST_SIZE);
	assert_false(list_empty(&budget.line));
	nbd_session_shutdown(peer.session);
	assert_true(list_empty(&budget.line));
	peer_run(&peer);
	expect_closed();
}

/* No memory is spent on what will be refused. */
static void a_refused_write_needs_little(void **state)
{
	greet();
	go("disk");
	take_all();
	put_request(message, NBD_CMD_WRITE, 0, PEER_IMAGE_SIZE - 512, 3u << 20);
	feed(message, NBD_REQUEST_SIZE + (3u << 20));
	assert_int_equal(get_be32(peer.output + 4), NBD_ENOSPC);
	assert_in_range(nbd_session_in_flight(peer.session), 0, 0);
	forget_output();
	expect(NBD_CMD_READ, 0, 0, 4096, NBD_SUCCESS);
}

static void a_wrong_request_magic_closes(void **state)
{
	greet();
	go("disk");
	memset(message, 0, NBD_REQUEST_SIZE);
	feed(message, NBD_REQUEST_SIZE);
	expect_closed();
}

static void an_endless_write_closes(void **state)
{
	greet();
	go("disk");
	put_request(message, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_DEFAULT + 1);
	feed(message, NBD_REQUEST_SIZE);
	expect_closed();
	assert_int_equal(peer.output_length, 0);
}

static int begin_transmitting(void **state)
{
	struct nbd_session_config config;

	peer_init(&peer);
	config = peer_config(&peer, 8);
	config.directory = NULL;
	return nbd_session_create_transmitting(&config, &peer.exports[0], &peer.session);
}

static void the_kernel_needs_no_handshake(void **state)
{
	expect(NBD_CMD_READ, 0, 0, 4096, NBD_SUCCESS);
	assert_int_equal(peer.events[NBD_EVENT_TRANSMIT], 1);
	nbd_session_shutdown(peer.session);
	peer_run(&peer);
	expect_closed();
}

#define TEST(name)	     cmocka_unit_test_setup_teardown(name, begin, end)
#define TEST_IN_BUDGET(name) cmocka_unit_test_setup_teardown(name, begin_in_budget, end_in_budget)
#define TEST_TLS(name)	     cmocka_unit_test_setup_teardown(name, begin_tls, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unknown_client_flags_close),
		TEST(export_name_sends_zeroes_unless_told),
		TEST(plain_newstyle_knows_export_name_alone),
		TEST(plain_newstyle_closes_on_other_options),
		TEST(unknown_export_name_closes),
		TEST(info_tells_all_that_was_asked),
		TEST(info_refuses_what_is_malformed),
		TEST(list_names_every_export),
		TEST(a_long_list_goes_out_in_parts),
		TEST(unknown_and_huge_options_are_answered),
		TEST(a_huge_export_name_closes),
		TEST(a_wrong_option_magic_closes),
		TEST(endless_option_data_closes),
		TEST_TLS(tls_required_refuses_the_rest),
		TEST_TLS(starttls_has_no_data),
		TEST_TLS(tls_required_closes_on_export_name),
		TEST_TLS(bytes_behind_starttls_close),
		TEST(data_written_is_read_back),
		TEST(messages_may_run_together),
		TEST(payloads_larger_than_a_slot_take_turns),
		TEST(buffers_in_use_are_not_trimmed),
		TEST(flags_reach_the_image),
		TEST(a_trim_with_fua_flushes),
		TEST(long_commands_are_served_in_pieces),
		TEST(bad_requests_get_the_protocols_errors),
		TEST(errors_of_the_image_are_translated),
		TEST(a_read_only_export_refuses_writes),
		TEST(structured_reads_come_in_one_chunk),
		TEST(a_large_structured_read_comes_in_chunks),
		TEST(meta_contexts_need_structured_replies),
		TEST(handshake_holds_no_export),
		TEST(list_meta_context_lists),
		TEST(block_status_tells_data_from_holes),
		TEST(block_status_without_extents_is_all_data),
		TEST(a_context_counts_for_its_export_alone),
		TEST(an_answer_that_waits_stops_the_input),
		TEST(an_empty_pool_stops_the_input),
		TEST(requests_in_the_input_go_on),
		TEST(a_full_input_has_no_room),
		TEST(disconnect_answers_what_is_in_flight),
		TEST(an_abandoned_session_keeps_its_buffers_until_completion),
		TEST_IN_BUDGET(a_request_without_memory_waits),
		TEST_IN_BUDGET(one_request_at_a_time_always_goes),
		TEST_IN_BUDGET(idle_buffers_are_given_back),
		TEST_IN_BUDGET(the_end_of_a_session_leaves_the_line),
		TEST_IN_BUDGET(a_refused_write_needs_little),
		TEST(a_wrong_request_magic_closes),
		TEST(an_endless_write_closes),
		cmocka_unit_test_setup_teardown(the_kernel_needs_no_handshake, begin_transmitting,
						end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
