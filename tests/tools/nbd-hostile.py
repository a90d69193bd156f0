#!/usr/bin/python3
"""nbd-hostile.py SOCKET CASE [null|PID|DIRECTORY]: a bad client, which good ones must not notice.

The server offers "disk", which stores nothing where `null` is said. The bad client stays connected
while good ones read and write; then it leaves, without good-bye. There are as many good ones as the
server has queue threads at most, so that one of them shares the bad one's. Cases about memory look at
the process PID, whose exports may hold MEMORY bytes. With a DIRECTORY of certificates all clients talk TLS.
"""

import os
import socket
import ssl
import struct
import sys
import time

import nbd

import nbd_tls

SOCKET, CASE, *MORE = sys.argv[1:]
TLS = MORE[0] if MORE and os.path.isdir(MORE[0]) else None
MEMORY = 64 << 20
SURE = 1 << 20  # for each client, beside that
ALONE = []  # see good_times(), before the bad client comes
OPTION = 0x49484156454F5054
CHOICE = struct.pack(">QII4s", OPTION, 1, 4, b"disk")
PATIENCE = 20  # seconds within which a server answers at all
QUEUES = 2  # threads of the server at most
ROUNDS = 5
BUSY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)  # nothing goes just now
HINDRANCE = 4  # a good round takes up to so many times of what it takes with no bad client there


def dial():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(SOCKET)
    return sock


def receive(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        assert part, "the server closed the connection"
        data += part
    return data


def greet():
    """A socket on which options may follow."""
    if TLS:
        return nbd_tls.begin(dial(), TLS)
    sock = dial()
    receive(sock, 18)
    sock.sendall(struct.pack(">I", 3))
    return sock


def transmit():
    """A socket with the handshake done."""
    sock = greet()
    sock.sendall(CHOICE)
    receive(sock, 10)
    return sock


def request(command, offset=0, length=4096, flags=0):
    return struct.pack(">IHHQQI", 0x25609513, flags, command, 7, offset, length)


def send_some(sock, data):
    """How much of it went, on a socket that does not block."""
    try:
        return sock.send(data)
    except BUSY:
        return 0


def receive_some(sock):
    try:
        part = sock.recv(65536)
    except BUSY:
        return 0
    assert part, "the server closed the connection"
    return len(part)


def fill(sock, data):
    """Sends until the server takes no more."""
    sock.setblocking(False)
    for _ in range(10000):
        if send_some(sock, data) == 0:
            return
    raise AssertionError("the server took everything")


def slow_reader():
    sock = transmit()
    fill(sock, request(0, 0, 1 << 20))
    return sock


def resident():
    with open(f"/proc/{MORE[0]}/status", encoding="ascii") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def many_slow_readers():
    """They ask for far more than the server may hold, and stay; it must hold no more than that."""
    before, socks = resident(), []
    for _ in range(40):
        socks.append(transmit())
        fill(socks[-1], request(0, 0, 1 << 20))
    good_client()
    held = resident() - before
    assert held <= MEMORY + (len(socks) + 8) * SURE, held
    assert held >= MEMORY / 2, held
    return Bundle(socks)


def memory_comes_back():
    """What the idle hold is there for others, the last reply included."""
    socks = []
    for _ in range(6):
        socks.append(transmit())
        socks[-1].sendall(request(0, 0, 1 << 20) * 16)
        receive(socks[-1], 16 * (16 + (1 << 20)))
    for _ in range(6):
        socks.append(transmit())
        socks[-1].sendall(request(0, 0, 32 << 20))
        receive(socks[-1], 16 + (32 << 20))
    return Bundle(socks)


def those_in_line_are_served():
    """Slow readers that begin to read after all get everything, first come, first served."""
    for size, count in ((1 << 20, 20), (32 << 20, 1)):
        socks = [transmit() for _ in range(10)]
        for sock in socks:
            sock.sendall(request(0, 0, size) * count)
        good_client()
        for sock in socks:
            receive(sock, count * (16 + size))
    return Bundle(socks)


class Bundle:
    def __init__(self, socks):
        self.socks = socks

    def close(self):
        for sock in self.socks:
            sock.close()


def ten_thousand_requests():
    """It reads no answer until the server takes no more requests; in the end all are answered."""
    sock = transmit()
    sock.setblocking(False)
    data, answers = request(3, 0, 0) * 10000, 0
    while data and (sent := send_some(sock, data[:65536])) > 0:
        data = data[sent:]
    good_client()
    deadline = time.time() + PATIENCE
    while (data or answers < 160000) and time.time() < deadline:
        answers += receive_some(sock)
        data = data[send_some(sock, data[:65536]):] if data else data
    assert answers == 160000, answers
    return sock


def waits_for_no_answer():
    """Options and requests are all sent before anything is read; each gets its answer."""
    sock = dial()
    listing = struct.pack(">QII", OPTION, 3, 0)
    sock.sendall(struct.pack(">I", 3) + 20 * listing +
                 CHOICE + 200 * request(0, 0, 512))
    receive(sock, 18 + 20 * (20 + 4 + 4 + 20) + 10)
    for _ in range(200):
        assert receive(sock, 16 + 512)[:8] == struct.pack(">II", 0x67446698, 0)
    return sock


def writes_before_any_answer():
    """The write's data belongs where its header says, however early that came."""
    sock = dial()
    data = bytes(range(256)) * 256
    sock.sendall(struct.pack(">I", 3) + 3 * struct.pack(">QII", OPTION, 3, 0) +
                 CHOICE + request(1, 1 << 20, len(data)))
    time.sleep(0.5)
    sock.sendall(data)
    receive(sock, 18 + 3 * (20 + 4 + 4 + 20) + 10 + 16)
    sock.sendall(request(0, 1 << 20, len(data)))
    answer = receive(sock, 16 + len(data))[16:]
    assert answer == (bytes(len(data)) if "null" in MORE else data)
    return sock


def stops_in_header():
    sock = transmit()
    sock.sendall(request(0)[:13])
    return sock


def stops_in_payload():
    sock = transmit()
    sock.sendall(request(1, 0, 65536) + b"x" * 1000)
    return sock


def stops_in_handshake():
    sock = dial()
    sock.sendall(struct.pack(">IQ", 3, OPTION))
    return sock


def leaves_in_flight():
    """With --fault delays on writes beyond 32 MiB, these are in flight when it goes."""
    sock = transmit()
    for i in range(8):
        sock.sendall(request(1, (32 << 20) + i * 65536, 65536) + b"x" * 65536)
    sock.close()
    return None


def leaves_with_replies_unsent():
    """With --fault delays on reads beyond 32 MiB, these are in flight when it goes, and others sent in part."""
    sock = transmit()
    sock.sendall(6 * request(0, 0, 1 << 20) + 4 * request(0, 32 << 20))
    time.sleep(0.5)
    sock.close()
    return None


def reads_bit_by_bit():
    """Requests without end come at once with the last option, and replies are taken slowly."""
    sock, data = greet(), CHOICE + request(0, 0, 65536) * 40000
    sock.setblocking(False)
    for _ in range(1000):
        data = data[send_some(sock, data[:65536]):]
        time.sleep(0.002)
        receive_some(sock)
    return sock


def takes_everything():
    """As fast as it comes, for two seconds; so the server can always go on. Prints how many MiB it took."""
    sock, data, taken = transmit(), b"", 0
    sock.setblocking(False)
    deadline = time.time() + 2
    while time.time() < deadline:
        data = data or request(0, 0, 1 << 20) * 36
        data = data[send_some(sock, data):]
        while (length := receive_some(sock)) > 0:
            taken += length
    print(taken >> 20)
    return sock


def speaks_nonsense():
    for data in (b"\xff" * 4096, struct.pack(">IQII", 3, OPTION, 7, 0xffffffff), b"GET / HTTP/1.0\r\n"):
        sock = dial()
        sock.sendall(data)
        while sock.recv(65536):
            pass
    sock = transmit()
    sock.sendall(b"\0" * 28)
    assert sock.recv(1) == b"", "a wrong magic number did not end the session"
    return None


def is_cut_off():
    """The handshake's time is limited."""
    sock = stops_in_handshake()
    receive(sock, 18)
    assert sock.recv(1) == b"", "the connection was not closed"


def is_cut_off_later(sock):
    """When its time is over; before that, others are served."""
    good_client()
    assert sock.recv(1) == b"", "the connection was not closed"


def stalls_before_tls():
    sock = dial()
    nbd_tls.agree(sock)
    is_cut_off_later(sock)


def stalls_in_tls_hello():
    """After the header of a record of 512 bytes and the first ones of them."""
    sock = dial()
    nbd_tls.agree(sock)
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
    is_cut_off_later(sock)


def stalls_within_tls():
    """The certificates are exchanged, and then it says nothing more."""
    is_cut_off_later(greet())


def has_a_foreign_certificate():
    """The one who issued it has the same name."""
    try:
        nbd_tls.begin(dial(), f"{TLS}/../foreign").recv(1)
    except ssl.SSLError as error:
        assert "UNKNOWN_CA" in error.reason or "BAD_CERTIFICATE" in error.reason, error
    else:
        raise AssertionError("it was not told why it is refused")


def talks_after_good_bye():
    """The answer still arrives, and then a proper end: no reset because of what was not read."""
    sock = transmit()
    sock.sendall(request(0) + request(2) + b"x" * 65536)
    time.sleep(0.5)
    receive(sock, 16 + 4096)
    sock.shutdown(socket.SHUT_WR)
    assert sock.recv(1) == b"", "something came after the end"
    return None


def good_handle():
    handle = nbd.NBD()
    handle.set_export_name("disk")
    if TLS:
        handle.set_tls(nbd.TLS_REQUIRE)
        handle.set_tls_certificates(TLS)
    handle.connect_unix(SOCKET)
    return handle


def good_round(handle, first):
    """Writes and reads ten blocks; the seconds that took."""
    begin = time.monotonic()
    for i in range(first, first + 10):
        handle.pwrite(bytes([i]) * 4096, i * 4096)
        assert handle.pread(4096, i * 4096) == bytes([0 if "null" in MORE else i]) * 4096
    return time.monotonic() - begin


def good_times():
    """Of each good client, all at once there: its best round, which says what all of them suffer."""
    handles = [good_handle() for _ in range(QUEUES)]
    rounds = [[good_round(handle, 10 * i) for handle in handles] for i in range(ROUNDS)]
    for handle in handles:
        handle.shutdown()
    assert max(map(max, rounds)) < PATIENCE, rounds
    return [min(times) for times in zip(*rounds)]


def good_client():
    """Is not hindered as long as the bad one is there. What else the machine does, passes."""
    deadline = time.monotonic() + PATIENCE
    times = good_times()
    while max(times) > HINDRANCE * max(ALONE):
        assert time.monotonic() < deadline, f"{times} s a round, and {ALONE} alone"
        times = good_times()


def main():
    ALONE.extend(good_times())
    bad = globals()[CASE.replace("-", "_")]()
    good_client()
    if bad:
        bad.close()
    good_client()


main()
