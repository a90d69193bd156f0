"""Reads a urbdd's figures again and again, as Prometheus does but more often."""
import socket
import threading

SECONDS = 0.1  # between two readings
REQUEST = b"GET /metrics HTTP/1.0\r\n\r\n"


def read(path):
    """What the endpoint at a unix socket answers."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        connection.sendall(REQUEST)
        while piece := connection.recv(1 << 16):
            answer += piece
    if b" 200 " not in answer.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"{path} does not answer with figures")
    return answer


class Scraper:
    """Reads as long as it is entered. `readings` is how often it did."""

    def __init__(self, path):
        self.path, self.readings, self.problem = path, 0, None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        try:
            while not self.done.wait(SECONDS):
                read(self.path)
                self.readings += 1
        except (OSError, RuntimeError) as problem:
            self.problem = problem

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.done.set()
        self.thread.join()
        if self.problem and not kind:
            raise self.problem
