#include "nbd/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd/session-internal.h"

unsigned input_length(const struct nbd_session *session)
{
	return session->in_end - session->in_start;
}

/* The next @length bytes of input, which must be there. They stay in place until the next window.
 */
const uint8_t *input_take(struct nbd_session *session, unsigned length)
{
	const uint8_t *bytes = session->in + session->in_start;

	session->in_start += length;
	return bytes;
}

void session_end(struct nbd_session *session)
{
	session->state = STATE_END;
	nbd_budget_leave_line(&session->member);
	session->in_start = session->in_end = 0;
}

static struct nbd_session *session_new(const struct nbd_session_config *config)
{
	struct nbd_session *session = malloc(sizeof(*session));

	if (!session)
		return NULL;
	/* The two large buffers at the end need no clearing. */
	memset(session, 0, offsetof(struct nbd_session, in));
	session->config = *config;
	return session;
}

int nbd_session_create(const struct nbd_session_config *config, struct nbd_session **ret)
{
	struct nbd_session *session = session_new(config);

	if (!session)
		return -ENOMEM;
	handshake_greet(session);
	*ret = session;
	return 0;
}

int nbd_session_create_transmitting(const struct nbd_session_config *config,
				    struct nbd_export *export, struct nbd_session **ret)
{
	struct nbd_session *session = session_new(config);
	int r;

	if (!session)
		return -ENOMEM;
	r = transmission_start(session, export);
	if (r < 0) {
		free(session);
		return r;
	}
	*ret = session;
	return 0;
}

static void put_export(struct nbd_session *session, struct nbd_export *export)
{
	const struct nbd_directory *directory = session->config.directory;

	if (directory && export)
		directory->put(directory->data, export);
}

void nbd_session_destroy(struct nbd_session *session)
{
	if (!session)
		return;
	transmission_stop(session);
	put_export(session, session->export);
	free(session);
}

/* Moves what is left to the front, so that a whole message always fits. */
static void compact_input(struct nbd_session *session)
{
	unsigned length = input_length(session);

	if (session->in_start > 0 && length > 0)
		memmove(session->in, session->in + session->in_start, length);
	session->in_start = 0;
	session->in_end = length;
}

/* None where more than @limit is left of what came under a higher one. */
static struct iovec input_room(struct nbd_session *session, unsigned limit)
{
	compact_input(session);
	return (struct iovec){ session->in + session->in_end, limit - MIN(limit, session->in_end) };
}

static unsigned requests_at_once(const struct nbd_session *session)
{
	return session->small_writes ? INPUT_SIZE : INPUT_BULK;
}

/* An empty place is left out: to receive nothing looks like the peer's end. */
static unsigned add_place(struct iovec window[2], unsigned count, struct iovec place)
{
	if (place.iov_len > 0)
		window[count++] = place;
	return count;
}

unsigned nbd_session_window(struct nbd_session *session, struct iovec window[2])
{
	unsigned count;

	switch (session->state) {
	case STATE_CLIENT_FLAGS:
	case STATE_OPTION:
	case STATE_OPTION_DATA:
	case STATE_OPTION_SKIP:
		if (session->out_start < session->out_end)
			return 0; /* or these bytes would be under way when their place changes */
		return add_place(window, 0, input_room(session, INPUT_SIZE));
	case STATE_REQUEST:
		if (!session->free)
			return 0;
		return add_place(window, 0, input_room(session, requests_at_once(session)));
	case STATE_PAYLOAD:
		count = add_place(window, 0, transmission_payload_room(session->current));
		return add_place(window, count, input_room(session, requests_at_once(session)));
	case STATE_LIST:
	case STATE_TLS:
	case STATE_BUFFER:
	case STATE_END:
		break;
	}
	return 0;
}

void nbd_session_received(struct nbd_session *session, size_t length)
{
	if (session->state == STATE_END)
		return;
	if (session->state == STATE_PAYLOAD) {
		struct slot *slot = session->current;
		size_t direct = MIN(length, transmission_payload_room(slot).iov_len);

		slot->received += direct;
		length -= direct;
	}
	session->in_end += length;
}

static bool step(struct nbd_session *session, struct slot **submit)
{
	if (session->transmitting)
		return transmission_step(session, submit);
	return handshake_step(session);
}

/* What the state itself has to tell the carrier, once. */
static enum nbd_event state_event(struct nbd_session *session)
{
	if (session->transmitting && !session->transmit_told) {
		session->transmit_told = true;
		return NBD_EVENT_TRANSMIT;
	}
	if (session->state == STATE_TLS && !session->tls_told) {
		session->tls_told = true;
		return NBD_EVENT_START_TLS;
	}
	if (session->state == STATE_END && !session->closing_told) {
		session->closing_told = true;
		return NBD_EVENT_CLOSE;
	}
	return NBD_EVENT_NONE;
}

static struct slot *take_again(struct nbd_session *session)
{
	struct slot *slot = session->again.first;

	if (slot)
		session->again.first = slot->next;
	return slot;
}

/* Only the session's own thread writes, so this needs no locked instruction. */
static void count_in_flight(struct nbd_session *session, int change)
{
	unsigned count = atomic_load_explicit(&session->in_flight, memory_order_relaxed);

	atomic_store_explicit(&session->in_flight, count + change, memory_order_relaxed);
}

enum nbd_event nbd_session_next(struct nbd_session *session, struct request **ret)
{
	struct slot *submit = take_again(session);
	enum nbd_event event;

	while (!submit) {
		event = state_event(session);
		if (event != NBD_EVENT_NONE || session->state == STATE_END)
			return event;
		if (!step(session, &submit))
			return state_event(session);
	}
	count_in_flight(session, 1);
	*ret = &submit->request;
	return NBD_EVENT_SUBMIT;
}

void nbd_session_complete(struct request *request)
{
	struct slot *slot = container_of(request, struct slot, request);

	count_in_flight(slot->session, -1);
	transmission_complete(slot, request->result);
}

struct nbd_session *nbd_session_of(const struct request *request)
{
	return container_of(request, const struct slot, request)->session;
}

void *nbd_session_data(const struct nbd_session *session)
{
	return session->config.data;
}

bool nbd_session_has_output(const struct nbd_session *session)
{
	return session->out_start < session->out_end || session->output.first;
}

unsigned nbd_session_output(struct nbd_session *session, struct iovec *iov, unsigned max)
{
	unsigned count = 0;

	if (session->out_start < session->out_end)
		iov[count++] = (struct iovec){ session->out + session->out_start,
					       session->out_end - session->out_start };
	return count + transmission_output(session, iov + count, max - count);
}

void nbd_session_sent(struct nbd_session *session, size_t length)
{
	size_t first = MIN(length, session->out_end - session->out_start);

	session->out_start += first;
	if (session->out_start == session->out_end)
		session->out_start = session->out_end = 0;
	transmission_sent(session, length - first);
}

void nbd_session_tls_started(struct nbd_session *session)
{
	session->tls = true;
	session->structured = session->block_status = false;
	session->meta_export[0] = 0;
	session->refusal = NULL;
	session->state = STATE_OPTION;
}

void nbd_session_shutdown(struct nbd_session *session)
{
	session_end(session);
}

void nbd_session_abandon(struct nbd_session *session)
{
	session_end(session);
	session->abandoned = true;
	session->out_start = session->out_end = 0;
	transmission_drop_output(session);
}

/* All slots are there and free: nothing is being received, at the image, or on its way out. */
static bool is_idle(const struct nbd_session *session)
{
	return session->buffers && !session->current && !session->again.first &&
	       !session->output.first && nbd_session_in_flight(session) == 0;
}

size_t nbd_session_trim(struct nbd_session *session, size_t position)
{
	return is_idle(session) ? buffers_trim(session, position) : 0;
}

/* A large reply may go in chunks, each when the one before it was sent. */
bool nbd_session_at_rest(const struct nbd_session *session)
{
	return !nbd_budget_is_short(&session->member) && !session->large_in_use &&
	       (session->state == STATE_PAYLOAD ||
		(session->state == STATE_REQUEST && session->free));
}

unsigned nbd_session_in_flight(const struct nbd_session *session)
{
	return atomic_load_explicit(&session->in_flight, memory_order_relaxed);
}

struct nbd_export *nbd_session_export(const struct nbd_session *session)
{
	return session->export;
}

const char *nbd_session_refusal(const struct nbd_session *session)
{
	return session->refusal;
}

struct image *nbd_session_image(const struct nbd_session *session)
{
	return session->image;
}
