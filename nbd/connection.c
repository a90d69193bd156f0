#include "nbd/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "nbd/tls.h"

/* Pieces of one send: header and payload of as many replies as come together in one turn. */
#define SEND_PIECES 128

/*
 * A peer that takes what comes as fast as it comes could be sent to without end. Others on the
 * queue have their turn after so many bytes; or, over TLS, sends of up to 64 KiB.
 */
#define SEND_BYTES (2u * 1024 * 1024)
#define TLS_SENDS  8

/* How long a peer that was told the end may go on sending before it is cut off. */
#define LINGER_SECONDS 2
#define LINGER_BYTES   4096

struct nbd_connection {
	struct nbd_connection_config config;
	struct nbd_session *session;
	struct queue *queue;
	int fd;

	/* Queue thread. The ring holds what is `armed`; it is freed only when nothing is. */
	struct ring_op receive_op, send_op, writable_op, timer_op, linger_op;
	bool receive_armed, writable_armed, timer_armed, linger_armed;
	bool closing; /* send what is left, then finish */

	size_t sending;	    /* bytes of output that the ring has to send; 0: none */
	uint64_t send_turn; /* the turn in which it got them */

	/* TLS: asked for, then made, then its handshake is done, then its end is said. */
	bool tls_wanted, tls_ready, tls_ended, tls_failed;
	struct nbd_tls_stream *tls;

	bool lingering; /* all is sent, and the peer knows that nothing more comes */
	bool shut;	/* the socket was shut down */
	bool finished;
	struct turn_hook hook;
	struct iovec window[2];
	struct msghdr window_message;
	struct iovec pieces[SEND_PIECES];
	struct msghdr send_message;
	struct __kernel_timespec timer, linger_timer;
	uint8_t discarded[LINGER_BYTES];
	struct work start_work;

	/* Any thread. */
	struct work wish_work;
	atomic_int stop;	 /* strictest NBD_STOP_* asked for, or -1 */
	atomic_bool wish_posted; /* wish_work is in the inbox */

	bool trim;	/* queue thread: asked for */
	size_t trimmed; /* the buffers are, so far */
};

static void schedule(struct nbd_connection *connection)
{
	queue_at_turn_end(connection->queue, &connection->hook);
}

/* The socket is of no use any more: wakes what the ring still holds on it. */
static void shut(struct nbd_connection *connection)
{
	if (!connection->shut)
		shutdown(connection->fd, SHUT_RDWR);
	connection->shut = true;
}

static void abandon(struct nbd_connection *connection)
{
	nbd_session_abandon(connection->session);
	connection->closing = true;
	shut(connection);
	schedule(connection);
}

static void timer_cancel(struct nbd_connection *connection, struct ring_op *op, bool armed)
{
	struct io_uring_sqe *sqe;

	if (!armed)
		return;
	sqe = queue_get_sqe(connection->queue);
	io_uring_prep_timeout_remove(sqe, (uintptr_t)op, 0);
	queue_sqe_bind(sqe, NULL);
}

static void handshake_in_time(struct nbd_connection *connection)
{
	timer_cancel(connection, &connection->timer_op, connection->timer_armed);
}

static void begin_transmission(struct nbd_connection *connection)
{
	const struct nbd_connection_config *config = &connection->config;

	handshake_in_time(connection);
	if (config->chosen)
		config->chosen(connection, nbd_session_export(connection->session), config->data);
}

/* Does all that the session wants done, short of receiving and sending. */
static void run_events(struct nbd_connection *connection)
{
	struct nbd_session *session = connection->session;
	struct request *request;

	for (;;) {
		switch (nbd_session_next(session, &request)) {
		case NBD_EVENT_NONE:
			return;
		case NBD_EVENT_SUBMIT:
			image_submit(nbd_session_image(session), request);
			break;
		case NBD_EVENT_TRANSMIT:
			begin_transmission(connection);
			break;
		case NBD_EVENT_START_TLS:
			connection->tls_wanted = true;
			break;
		case NBD_EVENT_CLOSE:
			connection->closing = true;
			break;
		}
	}
}

static void writable(struct ring_op *op, int result, uint32_t flags)
{
	struct nbd_connection *connection = container_of(op, struct nbd_connection, writable_op);

	connection->writable_armed = false;
	schedule(connection);
}

static void wait_writable(struct nbd_connection *connection)
{
	struct io_uring_sqe *sqe;

	if (connection->writable_armed)
		return;
	sqe = queue_get_sqe(connection->queue);
	io_uring_prep_poll_add(sqe, connection->fd, POLLOUT);
	queue_sqe_bind(sqe, &connection->writable_op);
	connection->writable_armed = true;
}

/* The answer to STARTTLS has gone: from here on both sides talk TLS. */
static void make_tls(struct nbd_connection *connection)
{
	connection->tls_wanted = false;
	if (nbd_tls_create(connection->config.credentials, &connection->tls) < 0)
		abandon(connection);
}

/* Encrypts as much of the session's output as there is room for. */
static void encrypt(struct nbd_connection *connection)
{
	struct iovec iov[2];
	ssize_t length;

	while (nbd_session_output(connection->session, iov, 2) > 0) {
		length = nbd_tls_write(connection->tls, iov[0].iov_base, iov[0].iov_len);
		if (length == -EAGAIN)
			return;
		if (length < 0) {
			abandon(connection);
			return;
		}
		nbd_session_sent(connection->session, length);
	}
}

/* Where the socket's next bytes go; 0: nowhere now. */
static unsigned get_window(struct nbd_connection *connection)
{
	if (!connection->tls)
		return nbd_session_window(connection->session, connection->window);
	if (connection->tls_ready &&
	    nbd_session_window(connection->session, connection->window) == 0)
		return 0;
	return nbd_tls_window(connection->tls, connection->window);
}

/*
 * Sending. The bytes stay where they are until a turn of the queue has passed: the ring sends them
 * without waiting (MSG_DONTWAIT), that is, in the very system call that submits. It speaks of a
 * failure and of a short send; of a whole one only if the connection needs it to go on, since a
 * completion would end the sleep that the same system call begins.
 */

/* The first @length bytes of what was being sent have gone. */
static void sending_ended(struct nbd_connection *connection, size_t length)
{
	connection->sending = 0;
	if (!connection->shut) /* or the output was dropped */
		nbd_session_sent(connection->session, length);
}

static void sent(struct ring_op *op, int result, uint32_t flags)
{
	struct nbd_connection *connection = container_of(op, struct nbd_connection, send_op);
	size_t wanted = connection->sending;

	sending_ended(connection, MAX(result, 0));
	if (result == -EAGAIN || result == -EINTR || (result >= 0 && (size_t)result < wanted))
		wait_writable(connection);
	else if (result < 0)
		abandon(connection);
	schedule(connection);
}

/* What was given to the ring in an earlier turn, and was not heard of, has been sent. */
static void settle_sending(struct nbd_connection *connection)
{
	if (connection->sending > 0 && connection->send_turn != queue_turn(connection->queue))
		sending_ended(connection, connection->sending);
}

static void arm_send(struct nbd_connection *connection, unsigned count, bool quiet)
{
	struct io_uring_sqe *sqe = queue_get_sqe(connection->queue);
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (quiet ? MSG_WAITALL : 0);

	connection->send_message =
		(struct msghdr){ .msg_iov = connection->pieces, .msg_iovlen = count };
	if (count == 1)
		io_uring_prep_send(sqe, connection->fd, connection->pieces[0].iov_base,
				   connection->pieces[0].iov_len, flags);
	else
		io_uring_prep_sendmsg(sqe, connection->fd, &connection->send_message, flags);
	if (quiet) /* with MSG_WAITALL a short send is a failure, which is told */
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	queue_sqe_bind(sqe, &connection->send_op);
	connection->send_turn = queue_turn(connection->queue);
}

/* Leaves the first SEND_BYTES of the pieces; returns how many these are. */
static unsigned cut_pieces(struct nbd_connection *connection, unsigned count)
{
	struct iovec *pieces = connection->pieces;
	size_t length = 0;
	unsigned used = 0;

	while (used < count && length < SEND_BYTES)
		length += pieces[used++].iov_len;
	if (length > SEND_BYTES) {
		pieces[used - 1].iov_len -= length - SEND_BYTES;
		length = SEND_BYTES;
	}
	connection->sending = length;
	return used;
}

/* Gives to the ring what waits, in one send. */
static void send_output(struct nbd_connection *connection)
{
	unsigned count = nbd_session_output(connection->session, connection->pieces, SEND_PIECES);
	bool all = count + 2 <= SEND_PIECES; /* a reply more would have fitted */

	count = cut_pieces(connection, count);
	all &= connection->sending < SEND_BYTES;
	if (count > 0)
		arm_send(connection, count,
			 all && queue_can_be_quiet(connection->queue) &&
				 nbd_session_at_rest(connection->session));
}

/* Sends at once what is encrypted; false when the socket takes no more for now, or nothing is. */
static bool send_encrypted(struct nbd_connection *connection)
{
	struct iovec iov;
	ssize_t length;

	if (connection->shut || connection->writable_armed)
		return false;
	if (connection->tls_ready && !connection->tls_ended)
		encrypt(connection);
	if (!nbd_tls_output(connection->tls, &iov))
		return false;
	length = send(connection->fd, iov.iov_base, iov.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (length >= 0) {
		nbd_tls_sent(connection->tls, length);
		return true;
	}
	if (errno == EAGAIN || errno == EINTR)
		wait_writable(connection);
	else
		abandon(connection);
	return false;
}

/* Goes on with the TLS handshake; false until it is done. */
static bool shake_hands(struct nbd_connection *connection)
{
	int r = nbd_tls_handshake(connection->tls);

	if (r == 0) {
		connection->tls_ready = true;
		nbd_session_tls_started(connection->session);
	} else if (r != -EAGAIN) {
		connection->closing = true; /* once the alert is sent */
		connection->tls_failed = true;
		nbd_session_abandon(connection->session);
	}
	return r == 0;
}

/* Decrypts what has come, as far as the session wants it. */
static void decrypt(struct nbd_connection *connection)
{
	struct iovec window[2];
	ssize_t length;

	if (connection->closing || (!connection->tls_ready && !shake_hands(connection)))
		return;
	while (nbd_session_window(connection->session, window) > 0) {
		length = nbd_tls_read(connection->tls, window[0].iov_base, window[0].iov_len);
		if (length == -EAGAIN)
			return;
		if (length <= 0) {
			abandon(connection);
			return;
		}
		nbd_session_received(connection->session, length);
		run_events(connection);
	}
}

static void received(struct ring_op *op, int result, uint32_t flags)
{
	struct nbd_connection *connection = container_of(op, struct nbd_connection, receive_op);

	connection->receive_armed = false;
	if (result > 0 && connection->lingering) {
		/* discarded */
	} else if (result > 0 && connection->tls) {
		nbd_tls_received(connection->tls, result);
	} else if (result > 0) {
		nbd_session_received(connection->session, result);
		run_events(connection);
	} else if (result != -EINTR && result != -EAGAIN) {
		abandon(connection);
	}
	schedule(connection);
}

static void arm_receive(struct nbd_connection *connection)
{
	struct io_uring_sqe *sqe;
	unsigned count = get_window(connection);

	if (count == 0)
		return;
	sqe = queue_get_sqe(connection->queue);
	if (count == 1) {
		io_uring_prep_recv(sqe, connection->fd, connection->window[0].iov_base,
				   connection->window[0].iov_len, 0);
	} else {
		connection->window_message =
			(struct msghdr){ .msg_iov = connection->window, .msg_iovlen = count };
		io_uring_prep_recvmsg(sqe, connection->fd, &connection->window_message, 0);
	}
	queue_sqe_bind(sqe, &connection->receive_op);
	connection->receive_armed = true;
}

static bool idle(const struct nbd_connection *connection)
{
	return !connection->receive_armed && !connection->writable_armed &&
	       connection->sending == 0 && !connection->timer_armed && !connection->linger_armed &&
	       nbd_session_in_flight(connection->session) == 0;
}

static void free_tls(struct nbd_connection *connection)
{
	nbd_tls_free(connection->tls);
	connection->tls = NULL;
}

static void free_connection(struct nbd_connection *connection)
{
	free_tls(connection);
	nbd_session_destroy(connection->session);
	free(connection);
}

/* The owner may free the credentials as soon as it knows. Once closed() has returned nobody posts
 * wish_work any more; what was posted frees instead. */
static void finish(struct nbd_connection *connection)
{
	list_remove(&connection->hook.entry); /* this turn may have asked for another one */
	close(connection->fd);
	free_tls(connection);
	connection->finished = true;
	connection->config.closed(connection, connection->config.data);
	if (!atomic_load(&connection->wish_posted))
		free_connection(connection);
}

/* True when the good-bye of TLS has yet to be sent. */
static bool end_tls(struct nbd_connection *connection)
{
	if (!connection->tls_ready || connection->tls_ended || connection->shut)
		return false;
	connection->tls_ended = true;
	nbd_tls_end(connection->tls);
	return true;
}

static void linger_over(struct ring_op *op, int result, uint32_t flags)
{
	struct nbd_connection *connection = container_of(op, struct nbd_connection, linger_op);

	connection->linger_armed = false;
	shut(connection);
	schedule(connection);
}

static void begin_linger(struct nbd_connection *connection)
{
	struct io_uring_sqe *sqe = queue_get_sqe(connection->queue);

	shutdown(connection->fd, SHUT_WR);
	connection->linger_timer.tv_sec = LINGER_SECONDS;
	io_uring_prep_timeout(sqe, &connection->linger_timer, 0, 0);
	queue_sqe_bind(sqe, &connection->linger_op);
	connection->lingering = connection->linger_armed = true;
}

/*
 * True while the peer may still be sending. A socket that is closed with unread bytes in it resets
 * the peer, which loses the replies that it has not read yet: so what comes is read to its end.
 */
static bool linger(struct nbd_connection *connection)
{
	struct io_uring_sqe *sqe;

	if (connection->shut)
		return false;
	if (!connection->lingering)
		begin_linger(connection);
	if (connection->receive_armed)
		return true;
	sqe = queue_get_sqe(connection->queue);
	io_uring_prep_recv(sqe, connection->fd, connection->discarded, LINGER_BYTES, 0);
	queue_sqe_bind(sqe, &connection->receive_op);
	connection->receive_armed = true;
	return true;
}

/*
 * Towards the end: everything answered and sent, then the peer heard out, then the socket shut,
 * then nothing outstanding.
 */
static void close_step(struct nbd_connection *connection)
{
	if (nbd_session_in_flight(connection->session) > 0 ||
	    nbd_session_has_output(connection->session))
		return;
	if (connection->writable_armed && !connection->shut)
		return;
	if (end_tls(connection)) {
		schedule(connection);
		return;
	}
	handshake_in_time(connection);
	if (linger(connection))
		return;
	timer_cancel(connection, &connection->linger_op, connection->linger_armed);
	if (idle(connection))
		finish(connection);
}

static void exchange_plain(struct nbd_connection *connection)
{
	run_events(connection);
	list_remove(&connection->hook.entry); /* what asked for it meanwhile is seen to here */
	if (connection->sending > 0)
		wait_writable(connection); /* sent with this turn: more has come since */
	else if (!connection->writable_armed)
		send_output(connection);
	if (connection->tls_wanted && !nbd_session_has_output(connection->session))
		make_tls(connection);
}

static void post_wish(struct nbd_connection *connection)
{
	if (!atomic_exchange(&connection->wish_posted, true))
		queue_post(connection->queue, &connection->wish_work);
}

/* A piece; the next one when others on the queue have had their turn. */
static void trim_some(struct nbd_connection *connection)
{
	connection->trim = false;
	connection->trimmed = nbd_session_trim(connection->session, connection->trimmed);
	if (connection->trimmed > 0)
		post_wish(connection);
}

/*
 * Takes in and sends out what can be, until neither goes on without the peer. One that takes
 * everything at once could go on for very long: false when the rest is left to the next turn.
 */
static bool exchange_encrypted(struct nbd_connection *connection)
{
	for (unsigned sends = 0; sends < TLS_SENDS; sends++) {
		run_events(connection); /* requests that had to wait until replies were sent */
		decrypt(connection);
		list_remove(&connection->hook.entry); /* what asked for it is seen to here */
		if (!send_encrypted(connection))
			return true;
	}
	schedule(connection);
	return false;
}

/* The end of a turn in which something happened. */
static void turn(struct nbd_connection *connection)
{
	settle_sending(connection);
	if (!connection->tls)
		exchange_plain(connection);
	else if (!exchange_encrypted(connection))
		return;
	if (connection->closing) {
		close_step(connection);
		return;
	}
	if (!connection->receive_armed)
		arm_receive(connection);
	if (connection->trim)
		trim_some(connection);
}

static void run_hook(struct turn_hook *hook)
{
	turn(container_of(hook, struct nbd_connection, hook));
}

static void timed_out(struct ring_op *op, int result, uint32_t flags)
{
	struct nbd_connection *connection = container_of(op, struct nbd_connection, timer_op);

	connection->timer_armed = false;
	if (result == -ETIME && !nbd_session_export(connection->session))
		abandon(connection);
	schedule(connection);
}

static void arm_timer(struct nbd_connection *connection)
{
	struct io_uring_sqe *sqe = queue_get_sqe(connection->queue);

	connection->timer.tv_sec = connection->config.handshake_seconds;
	io_uring_prep_timeout(sqe, &connection->timer, 0, 0);
	queue_sqe_bind(sqe, &connection->timer_op);
	connection->timer_armed = true;
}

static void done(struct request *request)
{
	struct nbd_connection *connection = nbd_session_data(nbd_session_of(request));

	nbd_session_complete(request);
	schedule(connection);
}

/* A finished one still holds memory for the moment until it is freed. */
static void wake(void *data)
{
	struct nbd_connection *connection = data;

	if (!connection->finished)
		schedule(connection);
}

static void run_wish(struct work *work)
{
	struct nbd_connection *connection = container_of(work, struct nbd_connection, wish_work);

	atomic_store(&connection->wish_posted, false);
	if (connection->finished) {
		free_connection(connection);
	} else if (atomic_load(&connection->stop) == NBD_STOP_NOW) {
		abandon(connection);
	} else if (atomic_load(&connection->stop) == NBD_STOP_DRAIN) {
		nbd_session_shutdown(connection->session);
		schedule(connection);
	} else {
		connection->trim = true;
		schedule(connection);
	}
}

static void run_start(struct work *work)
{
	struct nbd_connection *connection = container_of(work, struct nbd_connection, start_work);

	if (connection->config.handshake_seconds > 0)
		arm_timer(connection);
	schedule(connection);
}

static int create_session(struct nbd_connection *connection)
{
	struct nbd_session_config *config = &connection->config.session;

	config->home = connection->queue;
	config->done = done;
	config->wake = wake;
	config->data = connection;
	if (connection->config.export)
		return nbd_session_create_transmitting(config, connection->config.export,
						       &connection->session);
	return nbd_session_create(config, &connection->session);
}

int nbd_connection_create(const struct nbd_connection_config *config, struct nbd_connection **ret)
{
	struct nbd_connection *connection = calloc(1, sizeof(*connection));
	int r;

	if (!connection)
		return -ENOMEM;
	connection->config = *config;
	connection->queue = config->queue;
	connection->fd = config->fd;
	connection->receive_op.complete = received;
	connection->send_op.complete = sent;
	connection->writable_op.complete = writable;
	connection->timer_op.complete = timed_out;
	connection->linger_op.complete = linger_over;
	connection->hook.run = run_hook;
	connection->start_work.run = run_start;
	connection->wish_work.run = run_wish;
	list_init(&connection->hook.entry);
	atomic_init(&connection->stop, -1);
	r = create_session(connection);
	if (r < 0) {
		free(connection);
		return r;
	}
	*ret = connection;
	return 0;
}

void nbd_connection_discard(struct nbd_connection *connection)
{
	free_connection(connection);
}

void nbd_connection_start(struct nbd_connection *connection)
{
	queue_post(connection->queue, &connection->start_work);
}

void nbd_connection_stop(struct nbd_connection *connection, enum nbd_stop how)
{
	int before = atomic_load(&connection->stop);

	while (before < (int)how && !atomic_compare_exchange_weak(&connection->stop, &before, how))
		;
	post_wish(connection);
}

void nbd_connection_trim(struct nbd_connection *connection)
{
	post_wish(connection);
}

const char *nbd_connection_refusal(const struct nbd_connection *connection)
{
	return connection->tls_failed ? "its TLS handshake failed"
				      : nbd_session_refusal(connection->session);
}

unsigned nbd_connection_in_flight(const struct nbd_connection *connection)
{
	return nbd_session_in_flight(connection->session);
}

const struct nbd_session *nbd_connection_session(const struct nbd_connection *connection)
{
	return connection->session;
}
