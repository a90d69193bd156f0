#!/usr/bin/python3
"""map-rounds.py: maps and unmaps file images again and again while urbdd is killed at random, and sees what is left.

    map-rounds.py --rounds N --images DIRECTORY --socket PATH --state DIRECTORY --log FILE [--growth KIB] -- URBDD...

Each round maps ten images at once, reads each device and takes all away. In the first half of the rounds urbdd is
killed in every second one, at random: when some maps or some reads have been answered, whether the rest is under way
or not. In the second half one urbdd lives on, and what it holds after each round is noted. The first third of that
time fills its caches; the least that it held in the second is compared with the least of the last, so that a straggler
is no leak.

Prints results in the runner's terms; exit 1 where one is `not ok`.
"""
import argparse
import collections
import glob
import json
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

AT_ONCE = 10
READ = 64 << 10
PATIENCE = 120  # seconds


class Refused(Exception):
    """urbdd's answer is an error."""


class Results:
    def __init__(self):
        self.failures = 0

    def check(self, name, good, why=""):
        print(("ok - " if good else "not ok - ") + name, flush=True)
        if not good:
            self.failures += 1
            print("\n".join("# " + line for line in str(why).splitlines()), flush=True)


class Daemon:
    """urbdd, which may be killed and started again."""

    def __init__(self, command, path, log):
        self.command, self.path, self.log = command, path, log
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=self.log)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.call("version")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(self.path)
            peer.sendall(json.dumps(request).encode() + b"\n")
            for line in peer.makefile():
                message = json.loads(line)
                if "error" in message:
                    raise Refused(message["error"]["message"])
                if "result" in message:
                    return message["result"]
        raise ConnectionResetError("no answer")

    def holds(self):
        """What it has at this moment, by name."""
        proc = f"/proc/{self.process.pid}"
        with open(proc + "/smaps_rollup", encoding="ascii") as file:
            private = sum(int(line.split()[1]) for line in file if line.startswith(("Private_", "Swap:")))
        with open(proc + "/maps", encoding="ascii") as file:
            mappings = sum(1 for _ in file)
        return {
            "descriptors": len(os.listdir(proc + "/fd")),
            "threads": len(os.listdir(proc + "/task")),
            "mappings": mappings,
            "KiB of memory": private,
        }


def left_behind(state):
    """What the kernel and the state directory have."""
    return sorted(
        glob.glob("/sys/block/*") + glob.glob("/dev/*blk*") + glob.glob("/dev/nbd*") + glob.glob(state + "/*.*")
    )


def at_once(work, items, after_answers=None):
    """Runs work(item) for all at once; after so many have ended, calls what comes with the number. Returns what each
    gave, an exception where it failed."""
    ended = threading.Semaphore(0)
    outcome = [None] * len(items)

    def run(index):
        try:
            outcome[index] = work(items[index])
        except (OSError, ValueError, Refused) as error:  # ValueError: an answer cut off
            outcome[index] = error
        ended.release()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(items))]
    for thread in threads:
        thread.start()
    if after_answers:
        number, then = after_answers
        for _ in range(number):
            ended.acquire()
        then()
    for thread in threads:
        thread.join()
    return outcome


def read_device(path):
    buffer = mmap.mmap(-1, READ)
    device = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        got = os.preadv(device, [buffer], 0)
    finally:
        os.close(device)
    if got != READ:
        raise OSError(f"{got} bytes of {READ}")


class Rounds:
    def __init__(self, daemon, images, results):
        self.daemon, self.images, self.results = daemon, images, results
        self.deaths = 0
        self.seconds = collections.Counter()

    def timed(self, what, call, *arguments):
        began = time.monotonic()
        try:
            return call(*arguments)
        finally:
            self.seconds[what] += time.monotonic() - began

    def die(self):
        self.deaths += 1
        self.daemon.kill()
        self.timed("starts after a death", self.daemon.start)

    def map(self, image):
        rules = {"fault": "read=delay:20"} if image % 2 else {}
        path = f"{self.images}/image{image}"
        return self.daemon.call("map", type="file", path=path, frontend="ublk", **rules)["device"]

    def one(self, name, death):
        """@death: None, "map" or "read"."""
        moment = (random.randrange(AT_ONCE), self.die)
        devices = self.timed("maps", at_once, self.map, range(AT_ONCE), moment if death == "map" else None)
        refused = [error for error in devices if isinstance(error, Exception)]
        devices = [device for device in devices if not isinstance(device, Exception)]
        if refused and death != "map":
            self.results.check(f"{name}: maps", False, refused)
        if death == "read":
            moment = (random.randrange(len(devices)), self.die)
        reads = self.timed("reads", at_once, read_device, devices, moment if death == "read" else None)
        failed = [error for error in reads if error]
        if failed:
            self.results.check(f"{name}: reads of what was mapped", False, failed)
        try:
            self.timed("unmaps", self.take_away, devices, death or random.randrange(2))
        except (OSError, Refused) as error:
            self.results.check(f"{name}: unmaps", False, error)

    def take_away(self, devices, all_at_once):
        if all_at_once:
            self.daemon.call("unmap", all=True, force=True, timeout=PATIENCE)
            return
        for error in at_once(lambda device: self.daemon.call("unmap", device=device) and None, devices):
            if error:
                raise error


def soon(look, wanted):
    end = time.monotonic() + PATIENCE
    while look() != wanted and time.monotonic() < end:
        time.sleep(0.1)
    return look()


def growth(seen, what):
    third = len(seen) // 3
    return min(held[what] for held in seen[-third:]) - min(held[what] for held in seen[third:-third])


def look_at_growth(results, seen, memory_bound):
    mappings = None if memory_bound is None else 8
    for what, bound in (("descriptors", 0), ("threads", 0), ("mappings", mappings), ("KiB of memory", memory_bound)):
        grown = growth(seen, what)
        print(f"# many maps: {what}: {seen[0][what]} half way, {seen[-1][what]} at the end, grown by {grown}")
        if bound is not None:
            results.check(f"many maps: it holds no more {what} than before", grown <= bound, f"{grown} more")


def carry_out(options, daemon, results):
    rounds = Rounds(daemon, options.images, results)
    before = left_behind(options.state)
    seen = []
    daemon.start()
    for number in range(options.rounds):
        deadly = number < options.rounds // 2 and number % 2
        rounds.one(f"round {number}", random.choice(("map", "read")) if deadly else None)
        if number >= options.rounds // 2:
            seen.append(daemon.holds())
    for what, seconds in rounds.seconds.items():
        print(f"# many maps: {seconds:.1f} s in {what}")
    maps = options.rounds * AT_ONCE
    print("# many maps: KiB of memory after each round:", *(held["KiB of memory"] for held in seen))
    results.check(f"many maps: {maps} of them, and {rounds.deaths} deaths", results.failures == 0)
    left = soon(lambda: left_behind(options.state), before)
    results.check("many maps: nothing is left of them", left == before, set(left) ^ set(before))
    orphans = daemon.call("status")["orphans"]
    results.check("many maps: no orphan", not orphans, orphans)
    look_at_growth(results, seen, options.growth)
    results.check("many maps: urbdd ends in order", daemon.stop() == 0)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--images", "--socket", "--state", "--log"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--growth", type=int, help="KiB by which its memory may grow; left out: nobody looks, nor at mappings")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    print(f"# many maps: --seed {options.seed}", flush=True)
    random.seed(options.seed)
    results = Results()
    with open(options.log, "ab") as log:
        daemon = Daemon(options.command, options.socket, log)
        try:
            carry_out(options, daemon, results)
        finally:
            daemon.kill()
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
