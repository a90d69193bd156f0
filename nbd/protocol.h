/*
 * The numbers of the NBD protocol, in the words of its specification (doc/proto.md of
 * https://github.com/NetworkBlockDevice/nbd, revision of May 2026). Everything on the wire is
 * big-endian. Only what this server speaks or must recognise stands here.
 */
#pragma once

#include <stdint.h>

/* Magic numbers. */
#define NBD_MAGIC_GREETING   UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_MAGIC_OPTION     UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_MAGIC_OPT_REPLY  UINT64_C(0x0003e889045565a9)
#define NBD_MAGIC_REQUEST    UINT32_C(0x25609513)
#define NBD_MAGIC_SIMPLE     UINT32_C(0x67446698)
#define NBD_MAGIC_STRUCTURED UINT32_C(0x668e33ef)

/* Sizes of the fixed parts, in bytes. */
#define NBD_GREETING_SIZE	  18 /* magic, magic, handshake flags */
#define NBD_CLIENT_FLAGS_SIZE	  4
#define NBD_OPTION_SIZE		  16 /* magic, option, data length */
#define NBD_OPT_REPLY_SIZE	  20 /* magic, option, reply, data length */
#define NBD_EXPORT_NAME_ZEROES	  124
#define NBD_REQUEST_SIZE	  28 /* magic, flags, type, cookie, offset, length */
#define NBD_SIMPLE_REPLY_SIZE	  16 /* magic, error, cookie */
#define NBD_STRUCTURED_REPLY_SIZE 20 /* magic, flags, type, cookie, payload length */

#define NBD_STRING_MAX 4096 /* bytes of a name, a query or a message */

/* What every server shall take from a client that has negotiated no limits ("Size constraints"). */
#define NBD_PAYLOAD_DEFAULT (32u * 1024 * 1024)

/* Handshake flags of the server, and of the client with the same values. */
#define NBD_HANDSHAKE_FIXED_NEWSTYLE (1 << 0)
#define NBD_HANDSHAKE_NO_ZEROES	     (1 << 1)

enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

enum nbd_option_reply {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
};

#define NBD_REP_ERR_UNSUP    (UINT32_C(1) << 31 | 1)
#define NBD_REP_ERR_POLICY   (UINT32_C(1) << 31 | 2)
#define NBD_REP_ERR_INVALID  (UINT32_C(1) << 31 | 3)
#define NBD_REP_ERR_TLS_REQD (UINT32_C(1) << 31 | 5)
#define NBD_REP_ERR_UNKNOWN  (UINT32_C(1) << 31 | 6)
#define NBD_REP_ERR_TOO_BIG  (UINT32_C(1) << 31 | 9)

enum nbd_info {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

/* Transmission flags: what an export offers. */
#define NBD_FLAG_HAS_FLAGS	   (1 << 0)
#define NBD_FLAG_READ_ONLY	   (1 << 1)
#define NBD_FLAG_SEND_FLUSH	   (1 << 2)
#define NBD_FLAG_SEND_FUA	   (1 << 3)
#define NBD_FLAG_SEND_TRIM	   (1 << 5)
#define NBD_FLAG_SEND_WRITE_ZEROES (1 << 6)
#define NBD_FLAG_SEND_DF	   (1 << 7)
#define NBD_FLAG_CAN_MULTI_CONN	   (1 << 8)
#define NBD_FLAG_SEND_CACHE	   (1 << 10)
#define NBD_FLAG_SEND_FAST_ZERO	   (1 << 11)

enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

#define NBD_CMD_FLAG_FUA       (1 << 0)
#define NBD_CMD_FLAG_NO_HOLE   (1 << 1)
#define NBD_CMD_FLAG_DF	       (1 << 2)
#define NBD_CMD_FLAG_REQ_ONE   (1 << 3)
#define NBD_CMD_FLAG_FAST_ZERO (1 << 4)

/* Structured replies. */
#define NBD_REPLY_FLAG_DONE (1 << 0)

#define NBD_REPLY_OFFSET_DATA  1
#define NBD_REPLY_BLOCK_STATUS 5
#define NBD_REPLY_ERROR	       (1 << 15 | 1)

/* Flags of a base:allocation extent. */
#define NBD_STATE_HOLE (1 << 0)
#define NBD_STATE_ZERO (1 << 1)

enum nbd_error {
	NBD_SUCCESS = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};
