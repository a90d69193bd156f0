#!/usr/bin/python3
"""nbd-mix.py [--tls DIRECTORY] SOCKET SECONDS [SEED]: clients that do anything, many at once.

The server offers "disk", of 64 MiB. The clients send requests of all kinds and sizes, good and bad,
whole and half, read some of the answers, and leave at any time. What the server does with them is
not looked at: it has to live, and to serve others. With a DIRECTORY of certificates they talk TLS.
"""

import argparse
import random
import socket
import struct
import threading
import time

import nbd_tls

arguments = argparse.ArgumentParser()
arguments.add_argument("--tls")
arguments.add_argument("socket")
arguments.add_argument("seconds", type=float)
arguments.add_argument("seed", type=int, nargs="?", default=random.getrandbits(32))
ASKED = arguments.parse_args()
OPTION = 0x49484156454F5054
CHOICE = struct.pack(">QII4s", OPTION, 1, 4, b"disk")
CLIENTS = 24
PATIENCE = 5  # for the handshake of TLS
READ, WRITE, DISCONNECT = 0, 1, 2
sessions = []  # the number of its client for each
# Reads and writes mostly; trim, zeroes, flush; one that is unknown; the end, at times.
COMMANDS = [READ] * 8 + [WRITE] * 8 + [3, 3, 4, 4, 6, 6, 9, DISCONNECT]
LENGTHS = [512, 4096, 65536, 1 << 20, 3 << 20, 32 << 20, 0, 777]


def request(chance):
    command, length = chance.choice(COMMANDS), chance.choice(LENGTHS)
    if command == WRITE:
        length = min(length, 3 << 20)
    message = struct.pack(">IHHQQI", 0x25609513, 0, command, chance.getrandbits(40),
                          chance.randrange(0, 64 << 20, 512), length)
    if command == WRITE:
        message += bytes(length)
    return message if chance.random() < 0.95 else message[:len(message) // 2]


def greet(sock):
    """What the session goes on with."""
    if not ASKED.tls:
        sock.sendall(struct.pack(">I", 3))
        return sock
    patience = sock.gettimeout()
    sock.settimeout(PATIENCE)
    sock = nbd_tls.begin(sock, ASKED.tls)
    sock.settimeout(patience)
    return sock


def session(sock, chance):
    sock.sendall(CHOICE + chance.choice([b"", request(chance)]))
    for _ in range(chance.randrange(60)):
        sock.sendall(request(chance))
        if chance.random() < 0.5:
            sock.recv(chance.choice([1, 100, 65536, 1 << 20]))
    if chance.random() < 0.3:
        sock.shutdown(socket.SHUT_WR)
    for _ in range(chance.randrange(30)):
        if not sock.recv(1 << 20):
            return


def client(number, end):
    chance = random.Random(ASKED.seed + number)
    while time.time() < end:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.settimeout(chance.choice([0.05, 0.3, 1]))
                sock.connect(ASKED.socket)
                with greet(sock) as greeted:
                    sessions.append(number)
                    session(greeted, chance)
            except OSError:
                pass  # it was too slow, or the server had enough of it


def main():
    print("seed", ASKED.seed, flush=True)
    end = time.time() + ASKED.seconds
    threads = [threading.Thread(target=client, args=(i, end)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(sessions), "sessions")
    assert sessions, "nobody was greeted"


main()
