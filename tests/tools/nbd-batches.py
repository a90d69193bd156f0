#!/usr/bin/python3
"""nbd-batches.py SOCKET COUNT SIZE: COUNT times, SIZE reads of 512 bytes in one send, all answered.

The server offers "disk".
"""

import socket
import struct
import sys


def receive(sock, length):
    data = memoryview(bytearray(length))
    while data:
        part = sock.recv_into(data)
        assert part, "the server closed the connection"
        data = data[part:]


def main():
    count, size = int(sys.argv[2]), int(sys.argv[3])
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
    receive(sock, 18)
    sock.sendall(struct.pack(">IQII4s", 3, 0x49484156454F5054, 1, 4, b"disk"))
    receive(sock, 10)
    for _ in range(count):
        sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 0, 512) * size)
        receive(sock, size * (16 + 512))


main()
