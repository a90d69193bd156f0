#!/usr/bin/python3
"""nbd-batch.py SOCKET EXPORT read|write REQUESTS [BATCH [LENGTH]]: an NBD client that sends whole batches.

Each batch of requests (of 1, and of 4096 bytes, by default) is one write to the socket, and the next
follows when all of it is answered; so it is known beforehand what the server can do in one turn.
Offsets are scattered over the first 16 MiB, since librbd joins neighbours. Prints nothing; any answer but success ends it with 1.
"""
import socket
import struct
import sys

INIT, OPTION = b"NBDMAGIC", b"IHAVEOPT"
REQUEST, REPLY = 0x25609513, 0x67446698
READ, WRITE, DISCONNECT = 0, 1, 2
OPT_EXPORT_NAME = 1
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
SPAN = 16 << 20
STEP = 1021  # a prime, so that all blocks have their turn


def receive(peer, length):
    data = bytearray(length)
    view = memoryview(data)
    while view:
        got = peer.recv_into(view)
        if got == 0:
            sys.exit("nbd-batch: the server went away")
        view = view[got:]
    return data


def connect(path, export):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    if receive(peer, 18)[:16] != INIT + OPTION:
        sys.exit("nbd-batch: this is no NBD server")
    name = export.encode()
    peer.sendall(struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES) + OPTION +
                 struct.pack(">II", OPT_EXPORT_NAME, len(name)) + name)
    receive(peer, 10)
    return peer


def batch_of(first, count, length, writing):
    parts = []
    for number in range(first, first + count):
        parts.append(struct.pack(">IHHQQI", REQUEST, 0, WRITE if writing else READ, number,
                                 number * STEP % (SPAN // length) * length, length))
        if writing:
            parts.append(bytes([number & 0xff]) * length)
    return b"".join(parts)


def check(answers, count, size):
    for index in range(count):
        magic, error, _ = struct.unpack_from(">IIQ", answers, index * size)
        if magic != REPLY or error:
            sys.exit(f"nbd-batch: error {error}")


def main(path, export, command, requests, batch="1", length="4096"):
    requests, batch, length = int(requests), int(batch), int(length)
    writing = command == "write"
    size = 16 + (0 if writing else length)
    peer = connect(path, export)
    for first in range(0, requests, batch):
        peer.sendall(batch_of(first, batch, length, writing))
        check(receive(peer, size * batch), batch, size)
    peer.sendall(struct.pack(">IHHQQI", REQUEST, 0, DISCONNECT, 0, 0, 0))
    receive_end(peer)


def receive_end(peer):
    while peer.recv(4096):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
