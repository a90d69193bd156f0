/*
 * The fixed newstyle handshake: greeting, client flags, then options until one starts transmission.
 *
 * Between two options a session holds no reference to an export, only names: a client that dawdles
 * here cannot keep an export from being removed.
 */
#include <string.h>

#include "nbd/session-internal.h"
#include "nbd/wire.h"

#define HANDSHAKE_FLAGS (NBD_HANDSHAKE_FIXED_NEWSTYLE | NBD_HANDSHAKE_NO_ZEROES)

static const char meta_name[] = "base:allocation";
#define META_ID 1

/* Data of an option, looked at from the front. `bad` once more was asked for than is there. */
struct reader {
	const uint8_t *at;
	uint32_t left;
	bool bad;
};

static const uint8_t *read_bytes(struct reader *reader, uint32_t length)
{
	const uint8_t *at = reader->at;

	if (reader->bad || length > reader->left) {
		reader->bad = true;
		return NULL;
	}
	reader->at += length;
	reader->left -= length;
	return at;
}

static uint32_t read_be32(struct reader *reader)
{
	const uint8_t *at = read_bytes(reader, 4);

	return at ? get_be32(at) : 0;
}

static uint16_t read_be16(struct reader *reader)
{
	const uint8_t *at = read_bytes(reader, 2);

	return at ? get_be16(at) : 0;
}

/* Copies a name of @length bytes into @name. A name that is too long, or has a NUL, is bad. */
static void read_name(struct reader *reader, uint32_t length, char name[NBD_STRING_MAX + 1])
{
	const uint8_t *at = read_bytes(reader, length);

	if (!at || length > NBD_STRING_MAX || memchr(at, 0, length)) {
		reader->bad = true;
		return;
	}
	memcpy(name, at, length);
	name[length] = 0;
}

static uint8_t *out_room(struct nbd_session *session)
{
	return session->out + session->out_end;
}

static void out_until(struct nbd_session *session, const uint8_t *end)
{
	session->out_end = end - session->out;
}

/* The head of a reply to the current option; @length bytes of data must follow. */
static uint8_t *put_reply(struct nbd_session *session, uint32_t reply, uint32_t length)
{
	uint8_t *at = out_room(session);

	at = put_be64(at, NBD_MAGIC_OPT_REPLY);
	at = put_be32(at, session->option);
	at = put_be32(at, reply);
	return put_be32(at, length);
}

static void reply_ack(struct nbd_session *session)
{
	out_until(session, put_reply(session, NBD_REP_ACK, 0));
}

static void reply_error(struct nbd_session *session, uint32_t error, const char *text)
{
	size_t length = strlen(text);

	out_until(session, put_bytes(put_reply(session, error, length), text, length));
}

static void reply_invalid(struct nbd_session *session)
{
	reply_error(session, NBD_REP_ERR_INVALID, "the option's data is malformed");
}

static struct nbd_export *get_export(struct nbd_session *session, const char *name)
{
	const struct nbd_directory *directory = session->config.directory;

	return directory->get(directory->data, name);
}

static void put_export(struct nbd_session *session, struct nbd_export *export)
{
	const struct nbd_directory *directory = session->config.directory;

	if (export)
		directory->put(directory->data, export);
}

static void copy_name(char name[NBD_STRING_MAX + 1], const struct nbd_export *export)
{
	size_t length = strnlen(export->name, NBD_STRING_MAX);

	memcpy(name, export->name, length);
	name[length] = 0;
}

void handshake_greet(struct nbd_session *session)
{
	uint8_t *at = out_room(session);

	at = put_be64(at, NBD_MAGIC_GREETING);
	at = put_be64(at, NBD_MAGIC_OPTION);
	out_until(session, put_be16(at, HANDSHAKE_FLAGS));
	session->state = STATE_CLIENT_FLAGS;
}

static void client_flags(struct nbd_session *session)
{
	uint32_t flags = get_be32(input_take(session, NBD_CLIENT_FLAGS_SIZE));

	if (flags & ~(uint32_t)HANDSHAKE_FLAGS) {
		session_end(session);
		return;
	}
	session->fixed = flags & NBD_HANDSHAKE_FIXED_NEWSTYLE;
	session->no_zeroes = flags & NBD_HANDSHAKE_NO_ZEROES;
	session->state = STATE_OPTION;
}

uint16_t nbd_export_flags(const struct nbd_export *export)
{
	const struct image_info *info = &export->image->info;
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	/* CAN_MULTI_CONN holds: all connections share one open image, and so one cache. */
	if (export->read_only || info->read_only)
		return flags | NBD_FLAG_READ_ONLY;
	if (info->discard_granularity > 0)
		flags |= NBD_FLAG_SEND_TRIM;
	if (info->max_write_zeroes > 0)
		flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	return flags;
}

static uint16_t session_flags(const struct nbd_session *session, const struct nbd_export *export)
{
	return nbd_export_flags(export) | (session->structured ? NBD_FLAG_SEND_DF : 0);
}

/* Takes over the reference to @export. */
static void transmit(struct nbd_session *session, struct nbd_export *export)
{
	session->block_status =
		session->structured && strcmp(session->meta_export, export->name) == 0;
	if (transmission_start(session, export) < 0) {
		put_export(session, export);
		session_end(session);
	}
}

/* This option alone has no reply for errors: the session ends. */
static void option_export_name(struct nbd_session *session, struct reader *reader)
{
	char name[NBD_STRING_MAX + 1];
	struct nbd_export *export = NULL;
	uint8_t *at = out_room(session);

	read_name(reader, reader->left, name);
	if (!reader->bad)
		export = get_export(session, name);
	if (!export) {
		session_end(session);
		return;
	}
	at = put_be64(at, export->image->info.size);
	at = put_be16(at, session_flags(session, export));
	if (!session->no_zeroes) {
		memset(at, 0, NBD_EXPORT_NAME_ZEROES);
		at += NBD_EXPORT_NAME_ZEROES;
	}
	out_until(session, at);
	transmit(session, export);
}

static void info_export(struct nbd_session *session, const struct nbd_export *export)
{
	uint8_t *at = put_reply(session, NBD_REP_INFO, 12);

	at = put_be16(at, NBD_INFO_EXPORT);
	at = put_be64(at, export->image->info.size);
	out_until(session, put_be16(at, session_flags(session, export)));
}

static void info_text(struct nbd_session *session, enum nbd_info type, const char *text)
{
	size_t length = strnlen(text, NBD_STRING_MAX);
	uint8_t *at = put_reply(session, NBD_REP_INFO, 2 + length);

	at = put_be16(at, type);
	out_until(session, put_bytes(at, text, length));
}

static void info_block_size(struct nbd_session *session, const struct nbd_export *export)
{
	const struct image_info *info = &export->image->info;
	uint8_t *at = put_reply(session, NBD_REP_INFO, 14);

	at = put_be16(at, NBD_INFO_BLOCK_SIZE);
	at = put_be32(at, info->block_size);
	at = put_be32(at, MAX(info->physical_block_size, 4096u));
	out_until(session, put_be32(at, NBD_PAYLOAD_MIN));
}

/* Each kind of information goes out once, however often it was asked for: the output is bounded. */
static void reply_infos(struct nbd_session *session, struct nbd_export *export, unsigned asked)
{
	info_export(session, export);
	if (asked & 1 << NBD_INFO_NAME)
		info_text(session, NBD_INFO_NAME, export->name);
	if (asked & 1 << NBD_INFO_DESCRIPTION && export->description)
		info_text(session, NBD_INFO_DESCRIPTION, export->description);
	/* Also to those that do not ask: what is not aligned will be refused. */
	info_block_size(session, export);
	reply_ack(session);
}

static unsigned read_infos(struct reader *reader)
{
	unsigned count = read_be16(reader), asked = 0;

	while (count-- > 0 && !reader->bad) {
		uint16_t info = read_be16(reader);

		if (info <= NBD_INFO_BLOCK_SIZE)
			asked |= 1u << info;
	}
	return asked;
}

static void option_info(struct nbd_session *session, struct reader *reader)
{
	char name[NBD_STRING_MAX + 1];
	struct nbd_export *export;
	unsigned asked;

	read_name(reader, read_be32(reader), name);
	asked = read_infos(reader);
	if (reader->bad || reader->left > 0) {
		reply_invalid(session);
		return;
	}
	export = get_export(session, name);
	if (!export) {
		session->refusal = "it asked for an export that is not there";
		reply_error(session, NBD_REP_ERR_UNKNOWN, "no export has this name");
		return;
	}
	reply_infos(session, export, asked);
	if (session->option == NBD_OPT_GO)
		transmit(session, export);
	else
		put_export(session, export);
}

static void list_export(struct nbd_session *session, const char *name)
{
	size_t length = strlen(name);
	uint8_t *at = put_reply(session, NBD_REP_SERVER, 4 + length);

	at = put_be32(at, length);
	out_until(session, put_bytes(at, name, length));
}

/* As many of the names as the output has room for; the rest when it was sent. */
static void list_exports(struct nbd_session *session)
{
	const struct nbd_directory *directory = session->config.directory;
	const size_t most = 2 * (NBD_OPT_REPLY_SIZE + 4) + NBD_STRING_MAX;

	while (OUTPUT_SIZE - session->out_end >= most) {
		struct nbd_export *export =
			directory->next(directory->data, session->list_position);

		if (!export) {
			reply_ack(session);
			session->list_position[0] = 0;
			session->state = STATE_OPTION;
			return;
		}
		copy_name(session->list_position, export);
		put_export(session, export);
		list_export(session, session->list_position);
	}
	session->state = STATE_LIST;
}

static void option_list(struct nbd_session *session, struct reader *reader)
{
	if (reader->left > 0)
		reply_invalid(session);
	else
		list_exports(session);
}

static void option_structured_reply(struct nbd_session *session, struct reader *reader)
{
	if (reader->left > 0) {
		reply_invalid(session);
		return;
	}
	session->structured = true;
	reply_ack(session);
}

/* What follows an upgrade in the clear was put there by somebody else: end the session. */
static void option_starttls(struct nbd_session *session, struct reader *reader)
{
	if (session->config.tls == NBD_TLS_NONE) {
		reply_error(session, NBD_REP_ERR_POLICY, "this server has no TLS set up");
	} else if (session->tls) {
		reply_error(session, NBD_REP_ERR_INVALID, "TLS is in use already");
	} else if (reader->left > 0) {
		reply_invalid(session);
	} else if (input_length(session) > 0) {
		session_end(session);
	} else {
		reply_ack(session);
		session->state = STATE_TLS;
	}
}

static bool same_text(const uint8_t *text, uint32_t length, const char *other)
{
	return length == strlen(other) && memcmp(text, other, length) == 0;
}

/*
 * Looks through the queries for base:allocation ("base:" stands for it in LIST alone; no query at
 * all means every context in LIST, and none in SET).
 */
static bool read_queries(struct reader *reader, bool list)
{
	uint32_t count = read_be32(reader);
	bool found = list && count == 0;

	while (count-- > 0 && !reader->bad) {
		uint32_t length = read_be32(reader);
		const uint8_t *query = read_bytes(reader, length);

		if (!query || length > NBD_STRING_MAX)
			reader->bad = true;
		else if (same_text(query, length, meta_name) ||
			 (list && same_text(query, length, "base:")))
			found = true;
	}
	return found;
}

static void reply_meta_context(struct nbd_session *session, uint32_t id)
{
	uint8_t *at = put_reply(session, NBD_REP_META_CONTEXT, 4 + strlen(meta_name));

	at = put_be32(at, id);
	out_until(session, put_bytes(at, meta_name, strlen(meta_name)));
}

static void option_meta_context(struct nbd_session *session, struct reader *reader)
{
	bool list = session->option == NBD_OPT_LIST_META_CONTEXT, found;
	char name[NBD_STRING_MAX + 1];
	struct nbd_export *export;

	if (!list)
		session->meta_export[0] = 0;
	read_name(reader, read_be32(reader), name);
	found = read_queries(reader, list);
	if (reader->bad || reader->left > 0 || !session->structured) {
		reply_invalid(session);
		return;
	}
	export = get_export(session, name);
	if (!export) {
		reply_error(session, NBD_REP_ERR_UNKNOWN, "no export has this name");
		return;
	}
	if (found)
		reply_meta_context(session, list ? 0 : META_ID);
	reply_ack(session);
	if (found && !list)
		copy_name(session->meta_export, export);
	put_export(session, export);
}

static void option_abort(struct nbd_session *session, struct reader *reader)
{
	reply_ack(session);
	session_end(session);
}

static const struct {
	void (*run)(struct nbd_session *session, struct reader *reader);
	bool in_clear; /* answered before TLS where TLS is required */
} options[] = {
	[NBD_OPT_EXPORT_NAME] = { option_export_name, false },
	[NBD_OPT_ABORT] = { option_abort, true },
	[NBD_OPT_LIST] = { option_list, false },
	[NBD_OPT_STARTTLS] = { option_starttls, true },
	[NBD_OPT_INFO] = { option_info, false },
	[NBD_OPT_GO] = { option_info, false },
	[NBD_OPT_STRUCTURED_REPLY] = { option_structured_reply, false },
	[NBD_OPT_LIST_META_CONTEXT] = { option_meta_context, false },
	[NBD_OPT_SET_META_CONTEXT] = { option_meta_context, false },
};

static bool known_option(uint32_t option)
{
	return option < ARRAY_SIZE(options) && options[option].run;
}

/* True when the session needs TLS first; that has been answered then. */
static bool refuse_in_clear(struct nbd_session *session)
{
	if (session->config.tls != NBD_TLS_REQUIRED || session->tls ||
	    (known_option(session->option) && options[session->option].in_clear))
		return false;
	session->refusal = "it did not ask for TLS";
	if (session->option == NBD_OPT_EXPORT_NAME)
		session_end(session);
	else
		reply_error(session, NBD_REP_ERR_TLS_REQD, "this server talks over TLS alone");
	return true;
}

static void refuse_too_big(struct nbd_session *session)
{
	if (session->option == NBD_OPT_EXPORT_NAME)
		session_end(session);
	else
		reply_error(session, NBD_REP_ERR_TOO_BIG, "the option has too much data");
}

/* @data is NULL where it was too much to be kept; ABORT alone does without. */
static void run_option(struct nbd_session *session, const uint8_t *data)
{
	struct reader reader = { data, session->option_length, !data };

	session->state = STATE_OPTION;
	if (refuse_in_clear(session))
		return;
	if (!known_option(session->option))
		reply_error(session, NBD_REP_ERR_UNSUP, "this server does not know the option");
	else if (!data && session->option != NBD_OPT_ABORT)
		refuse_too_big(session);
	else
		options[session->option].run(session, &reader);
}

static void option_header(struct nbd_session *session)
{
	const uint8_t *header = input_take(session, NBD_OPTION_SIZE);

	session->option = get_be32(header + 8);
	session->option_length = session->skip = get_be32(header + 12);
	if (get_be64(header) != NBD_MAGIC_OPTION ||
	    (!session->fixed && session->option != NBD_OPT_EXPORT_NAME))
		session_end(session);
	else if (session->option_length <= OPTION_DATA_MAX)
		session->state = STATE_OPTION_DATA;
	else if (session->option_length <= NBD_PAYLOAD_DEFAULT)
		session->state = STATE_OPTION_SKIP;
	else
		session_end(session);
}

static bool skip_option(struct nbd_session *session)
{
	unsigned length = MIN(input_length(session), session->skip);

	input_take(session, length);
	session->skip -= length;
	if (session->skip > 0)
		return false;
	run_option(session, NULL);
	return true;
}

bool handshake_step(struct nbd_session *session)
{
	/* A client waits for each answer; one that does not gets them one by one. */
	if (session->out_start < session->out_end)
		return false;
	switch (session->state) {
	case STATE_CLIENT_FLAGS:
		if (input_length(session) < NBD_CLIENT_FLAGS_SIZE)
			return false;
		client_flags(session);
		return true;
	case STATE_OPTION:
		if (input_length(session) < NBD_OPTION_SIZE)
			return false;
		option_header(session);
		return true;
	case STATE_OPTION_DATA:
		if (input_length(session) < session->option_length)
			return false;
		run_option(session, input_take(session, session->option_length));
		return true;
	case STATE_OPTION_SKIP:
		return skip_option(session);
	case STATE_LIST:
		list_exports(session);
		return true;
	default:
		return false;
	}
}
