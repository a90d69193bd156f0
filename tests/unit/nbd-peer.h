/*
 * The other end of a session, in memory: hands it bytes in pieces of a chosen size, lets an image
 * serve what it submits (at once, or when told), and gathers what it sends. For the unit tests and
 * the fuzzer.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>

#include "nbd/protocol.h"
#include "nbd/session.h"
#include "nbd/wire.h"

#define PEER_IMAGE_SIZE (4u * 1024 * 1024)
#define PEER_PIECE	(1024u * 1024) /* largest discard and write-zeroes of the image */
#define PEER_OUTPUT_MAX (48u * 1024 * 1024)
#define PEER_HELD_MAX	1024

/* An image in memory that notes what it was asked. */
struct peer_image {
	struct image image;
	uint8_t *bytes;
	bool hold; /* keep requests until peer_release() */
	struct request *held[PEER_HELD_MAX];
	unsigned nr_held, ops[REQUEST_OPS];
	uint32_t last_flags;
	int fail; /* negative errno for every request */
};

static inline void peer_extents(struct peer_image *image, struct request *request)
{
	struct extents *extents = request->extents;
	uint64_t left = request->length;

	/* Data and holes by turns, 64 KiB each. */
	for (extents->count = 0; extents->count < extents->max && left > 0; extents->count++) {
		uint64_t at = request->offset + request->length - left;
		uint64_t length = MIN(left, 65536 - at % 65536);

		extents->list[extents->count] =
			(struct extent){ .length = length, .data = at / 65536 % 2 == 0 };
		left -= length;
	}
}

static inline void peer_serve(struct peer_image *image, struct request *request)
{
	image->ops[request->op]++;
	image->last_flags = request->flags;
	if (image->fail == 0 && request->op == REQUEST_READ)
		memcpy(request->buffer, image->bytes + request->offset, request->length);
	else if (image->fail == 0 && request->op == REQUEST_WRITE)
		memcpy(image->bytes + request->offset, request->buffer, request->length);
	else if (image->fail == 0 && request->op == REQUEST_WRITE_ZEROES)
		memset(image->bytes + request->offset, 0, request->length);
	else if (image->fail == 0 && request->op == REQUEST_EXTENTS)
		peer_extents(image, request);
	request_complete(request, image->fail);
}

static inline void peer_submit(struct image *base, struct request *request)
{
	struct peer_image *image = container_of(base, struct peer_image, image);

	if (image->hold && image->nr_held < PEER_HELD_MAX)
		image->held[image->nr_held++] = request;
	else
		peer_serve(image, request);
}

static const struct image_ops peer_image_ops = { .name = "peer", .submit = peer_submit };

struct peer {
	struct peer_image image;
	struct nbd_export exports[2];
	unsigned nr_exports, references;
	struct nbd_directory directory;
	struct nbd_session *session;
	unsigned events[NBD_EVENT_CLOSE + 1];
	uint8_t *output;
	size_t output_length;
	size_t piece;	/* most bytes that are handed over or taken at once */
	bool no_reader; /* take no output */
	bool hasty;	/* gives more as soon as output is taken, before it looks for events */
	const uint8_t *input; /* what it has yet to give */
	size_t input_length;
};

static inline struct nbd_export *peer_get(void *data, const char *name)
{
	struct peer *peer = data;

	for (unsigned i = 0; i < peer->nr_exports; i++)
		if (name[0] == 0 || strcmp(name, peer->exports[i].name) == 0) {
			peer->references++;
			return &peer->exports[i];
		}
	return NULL;
}

static inline void peer_put(void *data, struct nbd_export *export)
{
	((struct peer *)data)->references--;
}

/* In the order of the table, which is that of the names. */
static inline struct nbd_export *peer_next(void *data, const char *previous)
{
	struct peer *peer = data;

	for (unsigned i = 0; i < peer->nr_exports; i++) {
		if (strcmp(peer->exports[i].name, previous) <= 0)
			continue;
		peer->references++;
		return &peer->exports[i];
	}
	return NULL;
}

static inline void peer_init(struct peer *peer)
{
	*peer = (struct peer){ .piece = SIZE_MAX, .nr_exports = 2 };
	peer->image.image = (struct image){
		.ops = &peer_image_ops,
		.info = { .size = PEER_IMAGE_SIZE,
			  .block_size = 512,
			  .physical_block_size = 4096,
			  .discard_granularity = 4096,
			  .max_discard = PEER_PIECE,
			  .max_write_zeroes = PEER_PIECE,
			  .volatile_cache = true,
			  .extents = true },
	};
	peer->image.bytes = calloc(1, PEER_IMAGE_SIZE);
	peer->exports[0] = (struct nbd_export){ "disk", "a disk", &peer->image.image, false };
	peer->exports[1] = (struct nbd_export){ "frozen", NULL, &peer->image.image, true };
	peer->directory = (struct nbd_directory){ peer_get, peer_put, peer_next, peer };
	peer->output = malloc(PEER_OUTPUT_MAX);
}

/* Without a queue, requests complete on the thread that submits them. */
static inline struct nbd_session_config peer_config(struct peer *peer, unsigned depth)
{
	return (struct nbd_session_config){
		.depth = depth,
		.max_payload = NBD_PAYLOAD_DEFAULT,
		.directory = &peer->directory,
		.done = nbd_session_complete,
	};
}

/* Fills what the session has room for, up to `piece` bytes at once; false where there is no room.
 */
static inline bool peer_give_input(struct peer *peer)
{
	struct iovec window[2];
	unsigned count = nbd_session_window(peer->session, window);
	size_t given = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t part = MIN(MIN(window[i].iov_len, peer->input_length), peer->piece - given);

		((uint8_t *)window[i].iov_base)[window[i].iov_len - 1] = 0; /* all is room */
		memcpy(window[i].iov_base, peer->input, part);
		peer->input += part;
		peer->input_length -= part;
		given += part;
	}
	if (given > 0)
		nbd_session_received(peer->session, given);
	return given > 0;
}

/* Takes up to `piece` bytes of output at once, all in all everything, if there is a reader. */
static inline bool peer_take_output(struct peer *peer)
{
	bool any = false;
	struct iovec iov[4];
	unsigned count;

	while (!peer->no_reader && (count = nbd_session_output(peer->session, iov, 4)) > 0) {
		size_t room = PEER_OUTPUT_MAX - peer->output_length, sent = 0;

		for (unsigned i = 0; i < count && sent < peer->piece; i++) {
			size_t length = MIN(iov[i].iov_len, peer->piece - sent);

			memcpy(peer->output + peer->output_length, iov[i].iov_base,
			       MIN(length, room));
			peer->output_length += MIN(length, room);
			room -= MIN(length, room);
			sent += length;
		}
		nbd_session_sent(peer->session, sent);
		if (peer->hasty)
			peer_give_input(peer);
		any = true;
	}
	return any;
}

/* Lets the session do all that it can without more input. */
static inline void peer_run(struct peer *peer)
{
	struct request *request;
	enum nbd_event event;

	do {
		while ((event = nbd_session_next(peer->session, &request)) != NBD_EVENT_NONE) {
			peer->events[event]++;
			if (event == NBD_EVENT_SUBMIT)
				image_submit(nbd_session_image(peer->session), request);
		}
	} while (peer_take_output(peer));
}

/* Hands @bytes over; returns how many the session took before it wanted no more. */
static inline size_t peer_feed(struct peer *peer, const void *bytes, size_t length)
{
	peer->input = bytes;
	peer->input_length = length;
	do
		peer_run(peer);
	while (peer->input_length > 0 && peer_give_input(peer));
	length -= peer->input_length;
	peer->input_length = 0;
	return length;
}

/* Lets the image serve what it holds. */
static inline void peer_release(struct peer *peer)
{
	unsigned count = peer->image.nr_held;

	peer->image.nr_held = 0;
	peer->image.hold = false;
	for (unsigned i = 0; i < count; i++)
		peer_serve(&peer->image, peer->image.held[i]);
	peer_run(peer);
}

static inline void peer_end(struct peer *peer)
{
	nbd_session_abandon(peer->session);
	peer_release(peer);
	nbd_session_destroy(peer->session);
	free(peer->image.bytes);
	free(peer->output);
}
