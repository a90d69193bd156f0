#!/usr/bin/python3
"""count-requests.py URI COUNTER [COUNT]: asks an NBD export for everything, many at once, in every way there is.

Prints how much a counter (see count-allocations.c) has grown meanwhile, once all of it has run
before; then, a line each, the first places that it has noted.
"""

import struct
import sys

import nbd

BLOCK = 4096
BLOCKS = 256
AT_ONCE = 16
SPAN = 1 << 20  # of which the extents are asked
PLACES = 64


class Client:
    def __init__(self, uri):
        self.nbd = nbd.NBD()
        self.nbd.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        self.nbd.connect_uri(uri)
        self.buffer = nbd.Buffer.from_bytearray(bytearray(b"urbd" * (BLOCK // 4)))
        self.kinds = [
            *[lambda at: self.nbd.aio_pwrite(self.buffer, at)] * 5,
            lambda at: self.nbd.aio_pwrite(self.buffer, at, flags=nbd.CMD_FLAG_FUA),
            lambda at: self.nbd.aio_flush(),
            lambda at: self.nbd.aio_zero(BLOCK, at),
            lambda at: self.nbd.aio_zero(BLOCK, at, flags=nbd.CMD_FLAG_NO_HOLE),
            lambda at: self.nbd.aio_trim(BLOCK, at),
            lambda at: self.nbd.aio_cache(BLOCK, at),
            lambda at: self.nbd.aio_block_status(SPAN, at, self.see_extents),
            lambda at: self.nbd.aio_pread(nbd.Buffer(BLOCK), at),
        ]
        self.extents = 0

    def see_extents(self, _context, _offset, entries, _error):
        self.extents += len(entries) // 2

    def run(self, count):
        flying = []
        for number in range(count):
            kind = self.kinds[number % len(self.kinds)]
            flying.append(kind(number % BLOCKS * BLOCK))
            while len(flying) >= AT_ONCE:
                self.nbd.poll(-1)
                flying = [cookie for cookie in flying if not self.nbd.aio_command_completed(cookie)]
        while flying:
            self.nbd.poll(-1)
            flying = [cookie for cookie in flying if not self.nbd.aio_command_completed(cookie)]


def counter(path):
    with open(path, "rb") as file:
        count, *places = struct.unpack(f"={1 + PLACES}Q", file.read(8 * (1 + PLACES)))
    return count, places


def main():
    client = Client(sys.argv[1])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 4000
    client.run(1000)
    with open(sys.argv[2], "r+b") as file:  # the places before are of no interest
        file.write(bytes(8 * (1 + PLACES)))
    client.run(count)
    if not client.extents:
        sys.exit("no extents came")
    allocations, places = counter(sys.argv[2])
    print(allocations)
    for place in sorted(set(places[: min(allocations, PLACES)])):
        print(hex(place))


main()
