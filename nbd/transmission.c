/* The transmission phase: requests in, replies out. */
#include <errno.h>
#include <stdlib.h>

#include "nbd/session-internal.h"
#include "nbd/wire.h"

#define META_ID 1

/* Bytes at once of a write's data that go nowhere. */
#define REFUSED_PIECE (64u * 1024)

/* The one place where an errno becomes an error of the protocol ("Error values"). */
static uint32_t error_of(int result)
{
	switch (-result) {
	case 0:
		return NBD_SUCCESS;
	case EPERM:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
	case EOPNOTSUPP:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

static void append(struct slots *slots, struct slot *slot)
{
	slot->next = NULL;
	if (slots->first)
		slots->last->next = slot;
	else
		slots->first = slot;
	slots->last = slot;
}

static void free_slot(struct slot *slot)
{
	struct nbd_session *session = slot->session;

	buffers_put(slot);
	slot->next = session->free;
	session->free = slot;
}

static void init_slot(struct nbd_session *session, unsigned index)
{
	struct slot *slot = &session->pool[index];

	slot->session = session;
	slot->own.at = session->buffers + (size_t)index * NBD_PAYLOAD_MIN;
	slot->extents.list = (struct extent *)slot->own.at;
	slot->request.home = session->config.home;
	slot->request.done = session->config.done;
	slot->request.extents = &slot->extents;
	free_slot(slot);
}

/* Takes the caller's reference to @export over on success. */
int transmission_start(struct nbd_session *session, struct nbd_export *export)
{
	struct slot *pool = calloc(session->config.depth, sizeof(*pool));
	int r = pool ? buffers_map(session) : -ENOMEM;

	if (r < 0) {
		free(pool);
		return r;
	}
	session->pool = pool;
	for (unsigned i = session->config.depth; i-- > 0;)
		init_slot(session, i);
	session->export = export;
	session->image = export->image;
	session->lost = atomic_load(&session->image->lost);
	session->transmitting = true;
	session->state = STATE_REQUEST;
	return 0;
}

void transmission_stop(struct nbd_session *session)
{
	buffers_unmap(session);
	free(session->pool);
}

static uint8_t *put_structured(struct slot *slot, uint16_t type, uint32_t length)
{
	uint8_t *at = slot->header;

	at = put_be32(at, NBD_MAGIC_STRUCTURED);
	at = put_be16(at, slot->unsent > 0 ? 0 : NBD_REPLY_FLAG_DONE);
	at = put_be16(at, type);
	at = put_bytes(at, slot->cookie, sizeof(slot->cookie));
	return put_be32(at, length);
}

static void queue_reply(struct slot *slot, const uint8_t *header_end, const void *payload,
			uint32_t payload_length)
{
	slot->header_length = header_end - slot->header;
	slot->payload = payload;
	slot->payload_length = payload_length;
	append(&slot->session->output, slot);
}

static void reply_simple(struct slot *slot, uint32_t error, uint32_t payload_length)
{
	uint8_t *at = slot->header;

	at = put_be32(at, NBD_MAGIC_SIMPLE);
	at = put_be32(at, error);
	at = put_bytes(at, slot->cookie, sizeof(slot->cookie));
	queue_reply(slot, at, slot->request.buffer, payload_length);
}

static void reply_error(struct slot *slot, uint32_t error, const char *reason)
{
	size_t length = reason ? strlen(reason) : 0;
	uint8_t *at;

	if (!slot->session->structured) {
		reply_simple(slot, error, 0);
		return;
	}
	at = put_structured(slot, (uint16_t)NBD_REPLY_ERROR, 6 + length);
	at = put_be32(at, error);
	at = put_be16(at, length);
	queue_reply(slot, at, reason, length);
}

/* The next chunk of what was read, of no more than clients are told; see transmission_sent(). */
static void queue_chunk(struct slot *slot)
{
	uint32_t done = slot->length - slot->unsent, length = MIN(slot->unsent, NBD_PAYLOAD_MIN);
	uint8_t *at;

	slot->unsent -= length;
	at = put_structured(slot, NBD_REPLY_OFFSET_DATA, 8 + length);
	at = put_be64(at, slot->request.offset + done);
	queue_reply(slot, at, (const uint8_t *)slot->request.buffer + done, length);
}

static void reply_read(struct slot *slot)
{
	if (!slot->session->structured) {
		reply_simple(slot, NBD_SUCCESS, slot->length);
		return;
	}
	slot->unsent = slot->length;
	queue_chunk(slot);
}

/* One descriptor of the answer, joined with the one before where both say the same. */
static uint8_t *put_descriptor(uint8_t *at, const uint8_t *first, uint32_t length, bool data)
{
	uint32_t state = data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO;

	if (at > first && get_be32(at - 4) == state) {
		put_be32(at - 8, get_be32(at - 8) + length);
		return at;
	}
	return put_be32(put_be32(at, length), state);
}

/*
 * Turns the extents into descriptors in place: a descriptor (8 bytes) is shorter than the extent
 * (16 bytes) that it is made from. The sum is held to the length that was asked for.
 */
static void reply_block_status(struct slot *slot)
{
	uint8_t *first = slot->own.at, *at = first;
	uint32_t left = slot->length;

	for (unsigned i = 0; i < slot->extents.count && left > 0; i++) {
		struct extent extent = slot->extents.list[i];
		uint32_t length = MIN(extent.length, left);

		if (length > 0)
			at = put_descriptor(at, first, length, extent.data);
		left -= length;
	}
	if (at == first)
		at = put_descriptor(at, first, slot->length, true);
	queue_reply(slot,
		    put_be32(put_structured(slot, NBD_REPLY_BLOCK_STATUS, 4 + (at - first)),
			     META_ID),
		    first, at - first);
}

static void reply_success(struct slot *slot)
{
	if (slot->command == NBD_CMD_READ)
		reply_read(slot);
	else if (slot->command == NBD_CMD_BLOCK_STATUS)
		reply_block_status(slot);
	else
		reply_simple(slot, NBD_SUCCESS, 0);
}

static void reply_failure(struct slot *slot, int result)
{
	if (slot->flags & NBD_CMD_FLAG_FAST_ZERO && result == -EOPNOTSUPP)
		reply_error(slot, NBD_ENOTSUP, "no faster than writing zeroes");
	else
		reply_error(slot, error_of(result), NULL);
}

/* Sends the slot to the image once more if the command is not done yet. */
static bool submit_next_piece(struct slot *slot)
{
	struct request *request = &slot->request;

	if (slot->rest > 0) {
		request->offset += request->length;
		request->length = MIN(request->length, slot->rest);
		slot->rest -= request->length;
	} else if (slot->flush_after) {
		slot->flush_after = false;
		request->op = REQUEST_FLUSH;
		request->flags = 0;
		request->offset = request->length = 0;
	} else {
		return false;
	}
	append(&slot->session->again, slot);
	return true;
}

/* Whether what the client has written may be lost, and it was not told yet. */
static bool has_news_of_loss(struct nbd_session *session)
{
	unsigned lost = atomic_load(&session->image->lost), told = session->lost;

	session->lost = lost;
	return lost != told;
}

void transmission_complete(struct slot *slot, int result)
{
	if (slot->session->abandoned) {
		free_slot(slot);
		return;
	}
	if (slot->command == NBD_CMD_BLOCK_STATUS && result == -EOPNOTSUPP) {
		slot->extents.count = 0;
		result = 0;
	}
	if (slot->command == NBD_CMD_FLUSH && has_news_of_loss(slot->session))
		result = -EIO;
	if (result < 0)
		reply_failure(slot, result);
	else if (!submit_next_piece(slot))
		reply_success(slot);
}

static void refuse(struct slot *slot, uint32_t error, const char *reason)
{
	if (slot->error == NBD_SUCCESS) {
		slot->error = error;
		slot->reason = reason;
	}
}

/* Large commands without payload are served in pieces that the image takes. */
static void set_pieces(struct slot *slot, uint64_t most)
{
	const struct image_info *info = &slot->session->image->info;

	most &= ~(uint64_t)(info->block_size - 1);
	if (most == 0 || slot->length <= most)
		return;
	slot->request.length = most;
	slot->rest = slot->length - most;
}

/* The whole range has to be there before the first piece may change anything. */
static void check_range(struct slot *slot, uint32_t error)
{
	const struct image_info *info = &slot->session->image->info;

	if (slot->length > info->size || slot->request.offset > info->size - slot->length)
		refuse(slot, error, "beyond the end of the export");
	if ((slot->request.offset | slot->length) & (info->block_size - 1))
		refuse(slot, NBD_EINVAL, "not aligned to the export's block size");
	if (slot->length == 0)
		refuse(slot, NBD_EINVAL, "a length of 0");
}

static void need_writable(struct slot *slot)
{
	const struct nbd_session *session = slot->session;

	if (session->export->read_only || session->image->info.read_only)
		refuse(slot, NBD_EPERM, "the export is read-only");
}

static void need_offer(struct slot *slot, uint16_t flag)
{
	if (!(nbd_export_flags(slot->session->export) & flag))
		refuse(slot, NBD_EINVAL, "the export does not offer this command");
}

static void fill_read(struct slot *slot)
{
	const struct nbd_session *session = slot->session;

	slot->request.op = REQUEST_READ;
	check_range(slot, NBD_EINVAL);
	if (slot->flags & NBD_CMD_FLAG_DF && slot->length > NBD_PAYLOAD_MIN)
		refuse(slot, NBD_EOVERFLOW, "more than this server sends in one chunk");
	if (slot->length > session->config.max_payload)
		refuse(slot, session->structured ? NBD_EOVERFLOW : NBD_EINVAL,
		       "more than this server reads at once");
}

static void fill_write(struct slot *slot)
{
	slot->request.op = REQUEST_WRITE;
	slot->request.flags = slot->flags & NBD_CMD_FLAG_FUA ? REQUEST_FUA : 0;
	need_writable(slot);
	check_range(slot, NBD_ENOSPC);
	if (slot->length > slot->session->config.max_payload)
		refuse(slot, NBD_EINVAL, "more than this server writes at once");
}

static void fill_flush(struct slot *slot)
{
	slot->request.op = REQUEST_FLUSH;
	if (slot->request.offset != 0 || slot->length != 0)
		refuse(slot, NBD_EINVAL, "a flush has no range");
}

static void fill_trim(struct slot *slot)
{
	const struct image_info *info = &slot->session->image->info;

	slot->request.op = REQUEST_DISCARD;
	slot->flush_after = slot->flags & NBD_CMD_FLAG_FUA && info->volatile_cache;
	need_writable(slot);
	need_offer(slot, NBD_FLAG_SEND_TRIM);
	check_range(slot, NBD_EINVAL);
	set_pieces(slot, info->max_discard);
}

static void fill_write_zeroes(struct slot *slot)
{
	const struct image_info *info = &slot->session->image->info;

	slot->request.op = REQUEST_WRITE_ZEROES;
	slot->request.flags = (slot->flags & NBD_CMD_FLAG_FUA ? REQUEST_FUA : 0) |
			      (slot->flags & NBD_CMD_FLAG_NO_HOLE ? REQUEST_NOUNMAP : 0) |
			      (slot->flags & NBD_CMD_FLAG_FAST_ZERO ? REQUEST_FAST_ZERO : 0);
	need_writable(slot);
	need_offer(slot, NBD_FLAG_SEND_WRITE_ZEROES);
	check_range(slot, NBD_ENOSPC);
	if (slot->flags & NBD_CMD_FLAG_FAST_ZERO && !info->fast_zero)
		refuse(slot, NBD_ENOTSUP, "no faster than writing zeroes");
	set_pieces(slot, info->max_write_zeroes);
}

/* There is nothing to warm up: the command is checked, and succeeds. */
static void fill_cache(struct slot *slot)
{
	check_range(slot, NBD_EINVAL);
}

static void fill_block_status(struct slot *slot)
{
	slot->request.op = REQUEST_EXTENTS;
	slot->extents.count = 0;
	slot->extents.max = slot->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
	if (!slot->session->block_status)
		refuse(slot, NBD_EINVAL, "no metadata context was negotiated");
	check_range(slot, NBD_EINVAL);
}

static const struct {
	void (*fill)(struct slot *slot);
	uint16_t flags; /* that it takes */
} commands[] = {
	[NBD_CMD_READ] = { fill_read, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF },
	[NBD_CMD_WRITE] = { fill_write, NBD_CMD_FLAG_FUA },
	[NBD_CMD_FLUSH] = { fill_flush, NBD_CMD_FLAG_FUA },
	[NBD_CMD_TRIM] = { fill_trim, NBD_CMD_FLAG_FUA },
	[NBD_CMD_CACHE] = { fill_cache, NBD_CMD_FLAG_FUA },
	[NBD_CMD_WRITE_ZEROES] = { fill_write_zeroes, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
							      NBD_CMD_FLAG_FAST_ZERO },
	[NBD_CMD_BLOCK_STATUS] = { fill_block_status, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE },
};

/* What this session has not negotiated is not a flag of it. */
static uint16_t known_flags(const struct slot *slot)
{
	uint16_t flags = commands[slot->command].flags;

	return slot->session->structured ? flags : flags & ~NBD_CMD_FLAG_DF;
}

static void fill(struct slot *slot)
{
	if (slot->command >= ARRAY_SIZE(commands) || !commands[slot->command].fill) {
		refuse(slot, NBD_EINVAL, "an unknown command");
		return;
	}
	if (slot->flags & ~known_flags(slot))
		refuse(slot, NBD_EINVAL, "a flag that this command does not have");
	commands[slot->command].fill(slot);
}

static struct slot *take_free(struct nbd_session *session)
{
	struct slot *slot = session->free;

	session->free = slot->next;
	return slot;
}

static void parse(struct slot *slot, const uint8_t *header)
{
	slot->flags = get_be16(header + 4);
	slot->command = get_be16(header + 6);
	memcpy(slot->cookie, header + 8, sizeof(slot->cookie));
	slot->length = get_be32(header + 24);
	slot->request.flags = 0;
	slot->request.offset = get_be64(header + 16);
	slot->request.length = slot->length;
	slot->error = NBD_SUCCESS;
	slot->reason = NULL;
	slot->received = 0;
	slot->rest = 0;
	slot->unsent = 0;
	slot->flush_after = false;
}

static void dispatch(struct nbd_session *session, struct slot **submit)
{
	struct slot *slot = session->current;

	session->current = NULL;
	session->state = STATE_REQUEST;
	if (slot->error != NBD_SUCCESS)
		reply_error(slot, slot->error, slot->reason);
	else if (slot->command == NBD_CMD_CACHE)
		reply_success(slot);
	else if (slot->command == NBD_CMD_BLOCK_STATUS && !session->image->info.extents)
		reply_success(slot);
	else
		*submit = slot;
}

static bool has_payload(const struct slot *slot)
{
	return slot->command == NBD_CMD_WRITE && slot->length > 0;
}

/* Bytes of buffer. The data of a write is taken in, piece by piece, even where it is refused. */
static size_t need_of(const struct slot *slot)
{
	if (slot->error != NBD_SUCCESS)
		return has_payload(slot) ? MIN(slot->length, REFUSED_PIECE) : 0;
	if (slot->command == NBD_CMD_READ || slot->command == NBD_CMD_WRITE)
		return slot->length;
	return slot->command == NBD_CMD_BLOCK_STATUS ? EXTENTS_MAX * sizeof(struct extent) : 0;
}

static bool step_buffer(struct nbd_session *session, struct slot **submit)
{
	struct slot *slot = session->current;

	if (!buffers_get(slot, need_of(slot)))
		return false;
	if (has_payload(slot))
		session->state = STATE_PAYLOAD;
	else
		dispatch(session, submit);
	return true;
}

static void begin(struct nbd_session *session, const uint8_t *header, struct slot **submit)
{
	struct slot *slot = take_free(session);

	session->current = slot;
	parse(slot, header);
	fill(slot);
	if (has_payload(slot))
		session->small_writes = slot->length <= INPUT_COPIED;
	if (has_payload(slot) && slot->length > NBD_PAYLOAD_DEFAULT) {
		session->current = NULL;
		free_slot(slot);
		session_end(session);
	} else {
		session->state = STATE_BUFFER;
		step_buffer(session, submit);
	}
}

static bool step_request(struct nbd_session *session, struct slot **submit)
{
	const uint8_t *header;

	if (!session->free || input_length(session) < NBD_REQUEST_SIZE)
		return false;
	header = input_take(session, NBD_REQUEST_SIZE);
	if (get_be32(header) != NBD_MAGIC_REQUEST || get_be16(header + 6) == NBD_CMD_DISC)
		session_end(session);
	else
		begin(session, header, submit);
	return true;
}

struct iovec transmission_payload_room(struct slot *slot)
{
	uint32_t left = slot->length - slot->received;
	uint8_t *buffer = slot->request.buffer;

	if (slot->error != NBD_SUCCESS)
		return (struct iovec){ buffer, MIN(left, REFUSED_PIECE) };
	return (struct iovec){ buffer + slot->received, left };
}

/* The part of the payload that came together with the header. */
static void copy_payload(struct nbd_session *session, struct slot *slot)
{
	uint32_t length = MIN(input_length(session), slot->length - slot->received);
	const uint8_t *bytes = input_take(session, length);

	if (slot->error == NBD_SUCCESS)
		put_bytes((uint8_t *)slot->request.buffer + slot->received, bytes, length);
	slot->received += length;
}

static bool step_payload(struct nbd_session *session, struct slot **submit)
{
	struct slot *slot = session->current;

	if (slot->received < slot->length)
		copy_payload(session, slot);
	if (slot->received < slot->length)
		return false;
	dispatch(session, submit);
	return true;
}

bool transmission_step(struct nbd_session *session, struct slot **submit)
{
	switch (session->state) {
	case STATE_REQUEST:
		return step_request(session, submit);
	case STATE_BUFFER:
		return step_buffer(session, submit);
	case STATE_PAYLOAD:
		return step_payload(session, submit);
	default:
		return false;
	}
}

/* What is left of @iov behind the first *skip bytes; false when nothing is. */
static bool cut(struct iovec *iov, const void *base, size_t length, size_t *skip)
{
	size_t gone = MIN(*skip, length);

	*skip -= gone;
	iov->iov_base = (uint8_t *)base + gone;
	iov->iov_len = length - gone;
	return iov->iov_len > 0;
}

unsigned transmission_output(struct nbd_session *session, struct iovec *iov, unsigned max)
{
	size_t skip = session->output_sent;
	unsigned count = 0;

	for (struct slot *slot = session->output.first; slot && count + 2 <= max;
	     slot = slot->next) {
		count += cut(&iov[count], slot->header, slot->header_length, &skip);
		count += cut(&iov[count], slot->payload, slot->payload_length, &skip);
	}
	return count;
}

void transmission_sent(struct nbd_session *session, size_t length)
{
	struct slot *slot;

	length += session->output_sent;
	while ((slot = session->output.first) &&
	       length >= slot->header_length + slot->payload_length) {
		length -= slot->header_length + slot->payload_length;
		session->output.first = slot->next;
		if (slot->unsent > 0)
			queue_chunk(slot); /* behind what else waits, and may be sent already */
		else
			free_slot(slot);
	}
	session->output_sent = length;
}

void transmission_drop_output(struct nbd_session *session)
{
	struct slot *slot;

	session->output_sent = 0;
	while ((slot = session->output.first)) {
		session->output.first = slot->next;
		free_slot(slot);
	}
	while ((slot = session->again.first)) {
		session->again.first = slot->next;
		free_slot(slot);
	}
}
