#!/usr/bin/python3
"""nbd-burst.py SOCKET PID EXPORT...: a burst of 1 MiB requests, 16 at once, on a connection to each export, which stays
open; then what the server PID has of memory, in MiB: before, after the burst, and when it has given back what it does
within 30 s. The data is read back before and after that."""
import os
import sys
import time

import nbd

DEPTH = 16
SIZE = 1 << 20


def private_mib(pid):
    with open("/proc/%s/smaps_rollup" % pid) as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty")) / 1024


def finish(handle, cookies):
    while handle.aio_in_flight():
        handle.poll(-1)
    for cookie in cookies:
        handle.aio_command_completed(cookie)


def write_all(handle, data):
    blocks = [nbd.Buffer.from_bytearray(bytearray(data[i])) for i in range(DEPTH)]
    finish(handle, [handle.aio_pwrite(blocks[i], i * SIZE) for i in range(DEPTH)])


def check_all(handle, data):
    blocks = [nbd.Buffer(SIZE) for i in range(DEPTH)]
    finish(handle, [handle.aio_pread(blocks[i], i * SIZE) for i in range(DEPTH)])
    for i in range(DEPTH):
        assert blocks[i].to_bytearray() == data[i], "block %d differs" % i


def await_least(pid, enough):
    end = time.monotonic() + 30
    while private_mib(pid) > enough and time.monotonic() < end:
        time.sleep(0.2)
    return private_mib(pid)


socket, pid, exports = sys.argv[1], sys.argv[2], sys.argv[3:]
handles = []
for export in exports:
    handles.append(nbd.NBD())
    handles[-1].connect_uri("nbd+unix:///%s?socket=%s" % (export, socket))
data = [[os.urandom(SIZE) for i in range(DEPTH)] for export in exports]
before = private_mib(pid)
for number, handle in enumerate(handles):
    write_all(handle, data[number])
    check_all(handle, data[number])
burst = private_mib(pid)
least = await_least(pid, before + len(exports))
for number, handle in enumerate(handles):
    check_all(handle, data[number])
    data[number].reverse()
    write_all(handle, data[number])
    check_all(handle, data[number])
    handle.shutdown()
print("%d %d %d" % (before, burst, least))
