/*
 * Feeds a session arbitrary bytes, the way libFuzzer makes them up.
 *
 * The first byte of an input says how: bit 0 begins with transmission, bit 1 requires TLS, bit 2
 * lets the image hold its requests until the input is used up, bit 3 takes no output until then,
 * bit 4 gives and takes everything in pieces of 7 bytes, bit 5 abandons the session in the end
 * instead of shutting it down, bit 6 leaves it no memory beyond a request of the largest size, bit
 * 7 gives it more as soon as output was taken, with no look at what came before. The rest are the
 * peer's bytes. Beyond crashes, it is a finding when a session is stuck: no input wanted, nothing
 * to send, nothing in flight, and not at its end.
 */
#include <stddef.h>
#include <stdint.h>

#include "nbd/budget.h"
#include "tests/unit/nbd-peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One image and its bytes for all runs: making them anew would be most of the work. */
static struct peer peer;
static struct nbd_budget budget;
static uint8_t *bytes, *output;

static void wake(void *data)
{
}

static int open_session(unsigned how)
{
	struct nbd_session_config config = peer_config(&peer, 4);

	config.max_payload = 2 * NBD_PAYLOAD_MIN;
	nbd_budget_init(&budget, config.max_payload);
	config.budget = how & 64 ? &budget : NULL;
	config.wake = wake;
	config.tls = how & 2 ? NBD_TLS_REQUIRED : NBD_TLS_NONE;
	if (!(how & 1))
		return nbd_session_create(&config, &peer.session);
	config.directory = NULL;
	return nbd_session_create_transmitting(&config, &peer.exports[0], &peer.session);
}

static void set_up(void)
{
	if (!bytes) {
		peer_init(&peer);
		bytes = peer.image.bytes;
		output = peer.output;
	}
	peer.output_length = 0;
	peer.image.nr_held = 0;
	memset(peer.events, 0, sizeof(peer.events));
}

/* Feeds all there is; TLS begins as soon as it was agreed upon. */
static void feed(const uint8_t *data, size_t size)
{
	size_t taken;

	do {
		unsigned tls = peer.events[NBD_EVENT_START_TLS];

		taken = peer_feed(&peer, data, size);
		data += taken;
		size -= taken;
		if (peer.events[NBD_EVENT_START_TLS] > tls)
			nbd_session_tls_started(peer.session);
		else if (taken == 0)
			return;
		peer.output_length = 0;
	} while (size > 0);
}

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void check_not_stuck(void)
{
	struct iovec window[2];

	must(nbd_session_in_flight(peer.session) == 0);
	must(!nbd_session_has_output(peer.session));
	must(nbd_session_window(peer.session, window) > 0 || peer.events[NBD_EVENT_CLOSE] == 1 ||
	     peer.events[NBD_EVENT_START_TLS] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	set_up();
	peer.image.hold = data[0] & 4;
	peer.no_reader = data[0] & 8;
	peer.piece = data[0] & 16 ? 7 : SIZE_MAX;
	peer.hasty = data[0] & 128;
	if (open_session(data[0]) < 0)
		return 0;
	feed(data + 1, size - 1);
	peer.no_reader = false;
	if (data[0] & 32)
		nbd_session_abandon(peer.session);
	peer_release(&peer);
	while (peer.image.nr_held > 0)
		peer_release(&peer);
	if (data[0] & 32)
		must(peer.events[NBD_EVENT_CLOSE] == 1);
	else
		check_not_stuck();
	nbd_session_destroy(peer.session);
	must(peer.references == 0);
	must(budget.used == 0 && list_empty(&budget.line));
	must(peer.image.image.in_flight == 0);
	return 0;
}
