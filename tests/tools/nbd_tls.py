"""The client's half of TLS, for the NBD clients beside this file."""

import functools
import ssl
import struct

OPTION, STARTTLS, ACK = 0x49484156454F5054, 5, 1
GREETING, REPLY = 18, 20  # bytes


def agree(sock):
    """On a new connection: client and server say that TLS is to begin."""
    sock.sendall(struct.pack(">IQII", 3, OPTION, STARTTLS, 0))
    answer = b""
    while len(answer) < GREETING + REPLY:
        part = sock.recv(GREETING + REPLY - len(answer))
        if not part:
            raise ConnectionError("the server closed the connection")
        answer += part
    assert answer[30:34] == struct.pack(">I", ACK), "STARTTLS was refused"


@functools.lru_cache
def context(directory):
    what = ssl.create_default_context(cafile=f"{directory}/ca-cert.pem")
    what.load_cert_chain(f"{directory}/client-cert.pem", f"{directory}/client-key.pem")
    return what


def begin(sock, directory):
    """On a new connection: a socket under TLS, with what a client has in @directory."""
    agree(sock)
    return context(directory).wrap_socket(sock, server_hostname="localhost")
