/* The inside of a session, shared by session.c, handshake.c and transmission.c alone. */
#pragma once

#include <stdatomic.h>

#include "nbd/budget.h"
#include "nbd/protocol.h"
#include "nbd/session.h"

/* Option data of more than this is skipped and answered with TOO_BIG. */
#define OPTION_DATA_MAX 12288

/*
 * Bytes received at once while request headers are expected. Many headers fit, and little of a
 * write's payload has to be copied out of them. After a small write many small ones fit, since the
 * copy of a payload of up to INPUT_COPIED costs less than a receive of its own.
 */
#define INPUT_BULK   1024
#define INPUT_SIZE   (72 * 1024)
#define INPUT_COPIED (16 * 1024)
_Static_assert(INPUT_SIZE >= NBD_OPTION_SIZE + OPTION_DATA_MAX, "an option must have room");

/* Room for the replies to one option; only LIST can need more, and goes on when it was sent. */
#define OUTPUT_SIZE 16384

/* Extents of one BLOCK_STATUS answer. They are gathered in the slot's buffer. */
#define EXTENTS_MAX 8192

enum state {
	STATE_CLIENT_FLAGS,
	STATE_OPTION,	   /* the 16 bytes of an option */
	STATE_OPTION_DATA, /* its data */
	STATE_OPTION_SKIP, /* its data, which is too long to look at */
	STATE_LIST,	   /* more of a LIST answer, when the output is empty */
	STATE_TLS,	   /* nothing until TLS runs */
	STATE_REQUEST,	   /* the 28 bytes of a request */
	STATE_BUFFER,	   /* a buffer for the request that was read */
	STATE_PAYLOAD,	   /* the data of a write */
	STATE_END	   /* no more input is wanted */
};

/* Part of the session's mapping. */
struct buffer {
	uint8_t *at;
	size_t held; /* bytes at its beginning that may be backed by memory, whole pages */
};

/* A request's place in the pool. Free, being received, in flight, or in the output. */
struct slot {
	struct request request;
	struct nbd_session *session;
	struct slot *next; /* in the list that it is in */
	struct buffer own; /* NBD_PAYLOAD_MIN bytes */
	struct extents extents;

	uint8_t cookie[8];
	uint16_t command, flags; /* from the wire */
	uint32_t received;	 /* bytes of payload that have come */
	uint32_t length;	 /* of the whole command, where it is served in pieces */
	uint32_t error;		 /* NBD_E*: refuse the request, and why */
	const char *reason;	 /* or NULL */
	uint64_t rest;		 /* bytes of later pieces */
	uint32_t unsent;	 /* bytes of a read that later chunks of its reply bear */
	bool flush_after;	 /* a flush makes it stable, as the operation itself cannot */
	bool large;		 /* uses the session's large buffer */

	uint8_t header[NBD_STRUCTURED_REPLY_SIZE + 8 + 4];
	uint32_t header_length;
	uint32_t payload_length;
	const void *payload;
};

/* A first-in first-out list of slots. */
struct slots {
	struct slot *first, *last;
};

struct nbd_session {
	struct nbd_session_config config;
	enum state state;
	bool abandoned;
	bool tls_told, transmit_told, closing_told; /* events that have been returned */
	bool transmitting;

	/* Negotiated. */
	bool fixed, no_zeroes, tls, structured, block_status;
	const char *refusal;		      /* what the last refusal was for; NULL: none */
	struct nbd_export *export;	      /* none before transmission: see handshake.c */
	char meta_export[NBD_STRING_MAX + 1]; /* what base:allocation was chosen for, or "" */

	/* Input not looked at yet: in[in_start..in_end). */
	unsigned in_start, in_end;
	uint32_t option, option_length, skip;
	char list_position[NBD_STRING_MAX + 1]; /* the last name that a LIST answer told */

	/* Handshake output not sent yet: out[out_start..out_end). */
	unsigned out_start, out_end;

	/* Transmission. */
	struct image *image;
	unsigned lost; /* image->lost, as far as the client was told */
	struct slot *pool;
	uint8_t *buffers; /* one mapping for all of them */
	size_t buffers_size;
	struct buffer large; /* NBD_PAYLOAD_DEFAULT bytes */
	bool large_in_use;
	struct nbd_budget_member member;
	atomic_uint in_flight;
	struct slot *free;    /* last in, first out: warm buffers first */
	struct slot *current; /* being received */
	bool small_writes;    /* the last write was one, so more of them may come at once */
	struct slots again;   /* to be submitted once more */
	struct slots output;
	size_t output_sent; /* bytes of the first one */

	uint8_t in[INPUT_SIZE];
	uint8_t out[OUTPUT_SIZE];
};

/* session.c */
unsigned input_length(const struct nbd_session *session);
const uint8_t *input_take(struct nbd_session *session, unsigned length);
void session_end(struct nbd_session *session);

/* handshake.c: looks at the input; false when it needs more, or room for output. */
void handshake_greet(struct nbd_session *session);
bool handshake_step(struct nbd_session *session);

/* buffers.c: @length bytes for what the slot is to do; false: not now, see STATE_BUFFER. */
int buffers_map(struct nbd_session *session);
void buffers_unmap(struct nbd_session *session);
bool buffers_get(struct slot *slot, size_t length);
void buffers_put(struct slot *slot);
size_t buffers_trim(struct nbd_session *session, size_t position);

/* transmission.c */
int transmission_start(struct nbd_session *session, struct nbd_export *export);
void transmission_stop(struct nbd_session *session);
struct iovec transmission_payload_room(struct slot *slot);
bool transmission_step(struct nbd_session *session, struct slot **submit);
void transmission_complete(struct slot *slot, int result);
unsigned transmission_output(struct nbd_session *session, struct iovec *iov, unsigned max);
void transmission_sent(struct nbd_session *session, size_t length);
void transmission_drop_output(struct nbd_session *session);
