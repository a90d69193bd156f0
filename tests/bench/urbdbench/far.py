"""A cluster that is some milliseconds away: a network namespace whose way to it holds back each message.

Storage on this machine answers at once, so a row of requests keeps the CPUs busy; far storage lets it wait."""
import asyncio
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading

CHUNK = 1 << 20


class Far:
    """What is run with `prefix` before it has the cluster `ms` away, each way."""

    def __init__(self, cluster, ms):
        self.cluster, self.ms, self.process = cluster, ms, None

    def __enter__(self):
        outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.process = subprocess.Popen(
            ["unshare", "--net", sys.executable, __file__, str(self.ms), str(outside), *addresses(self.cluster)],
            stdout=subprocess.PIPE, pass_fds=[outside])
        os.close(outside)
        if self.process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise RuntimeError("the way to a cluster far away cannot be made")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def prefix(self):
        return ["nsenter", f"--target={self.process.pid}", "--net"]


def addresses(cluster):
    """HOST:PORT of all monitors and OSDs, which are not IPv6's."""
    found = []
    for what in "mon", "osd":
        dump = subprocess.run(["timeout", "60", "ceph", "-c", cluster.ceph_conf, what, "dump", "-f", "json"],
                              check=True, capture_output=True, text=True).stdout
        for daemon in json.loads(dump)[f"{what}s"]:
            found += [address["addr"] for address in daemon["public_addrs"]["addrvec"]]
    return found


# ---- the process of its own, in its own network

def listen(address):
    host, port = address.rsplit(":", 1)
    return socket.create_server((host, int(port)), backlog=512)


def go_outside(namespace):
    """This thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


async def send_later(queue, writer):
    loop = asyncio.get_running_loop()
    while True:
        due, data = await queue.get()
        await asyncio.sleep(max(0, due - loop.time()))
        if not data:
            writer.close()
            return
        writer.write(data)
        await writer.drain()


async def carry(reader, writer, seconds):
    queue = asyncio.Queue()
    sender = asyncio.create_task(send_later(queue, writer))
    data = b"more"
    while data:
        try:
            data = await reader.read(CHUNK)
        except OSError:
            data = b""
        await queue.put((asyncio.get_running_loop().time() + seconds, data))
    with contextlib.suppress(OSError):
        await sender


def carrier(address, seconds):
    host, port = address.rsplit(":", 1)

    async def connected(reader, writer):
        there, back = await asyncio.open_connection(host, int(port))
        for end in writer, back:
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(carry(reader, back, seconds), carry(there, writer, seconds))
    return connected


async def serve(sockets, seconds):
    servers = [await asyncio.start_server(carrier(address, seconds), sock=sock) for address, sock in sockets.items()]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main(ms, namespace, *names):
    """The first thread stays inside, so that others can join it there."""
    def run():
        go_outside(int(namespace))
        asyncio.run(serve(sockets, float(ms) / 1000))

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for host in {name.rsplit(":", 1)[0] for name in names} - {"127.0.0.1"}:
        subprocess.run(["ip", "address", "add", f"{host}/32", "dev", "lo"], check=True)
    sockets = {name: listen(name) for name in names}
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
