"""What a request costs urbdd in what no noise can explain: a line `NAME VALUE` for each count.

calls         system calls of the whole daemon (by the kernel's tracepoint, or strace where that is closed)
switches      context switches of all its threads
instructions  of urbdd's own code, without libraries (callgrind)
total         instructions of the whole process, with librbd and all other libraries: of urbdd (b32), and
              of librbd-loop with 32 in flight, which is the floor (--floor)
copied        bytes that urbdd's own code moves with memcpy and its like (dhat); the compiler's own copies
              of a few bytes, and the kernel's, are not in it

All of it is for requests of 4 KiB to an export on a unix socket: of null, and of an image of the
cluster in the environment where there is one. `d1` is one request at a time, `b32` a client that
writes 32 of them at once, `fio32` fio with 32 in flight, which writes them one by one.
"""
import argparse
import collections
import glob
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from . import lab, procfs
from .targets import NULL_SIZE, wait_for

REQUESTS = 20000          # in native runs
INSTRUMENTED = 4000       # null under valgrind
INSTRUMENTED_RBD = 500
PATIENCE = 120


class Daemon:
    """A urbdd that exports one image, maybe under a tool."""

    def __init__(self, directory, build, what, tool=()):
        self.directory, self.build = directory, build
        environment = dict(os.environ)
        if tool:
            environment["LD_PRELOAD"] = f"{build}/tests/bench/valgrind-ring.so"
        for name in ("ctl", "nbd"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        with open(self.path("log"), "wb") as log:
            self.process = subprocess.Popen(
                [*tool, f"{build}/daemon/urbdd", "--queues", "1", "--socket", self.path("ctl"), "--state-dir",
                 self.path("state"), "--listen", f"unix:{self.path('nbd')}"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(lambda: self.urbd("version").returncode == 0, "urbdd", PATIENCE)
            done = self.urbd("export", *what, "--export-name", "disk", "--timeout", str(PATIENCE))
            if done.returncode:
                raise RuntimeError(done.stderr)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def path(self, name):
        return os.path.join(self.directory, name)

    def urbd(self, verb, *arguments):
        return subprocess.run([f"{self.build}/cli/urbd", "--socket", self.path("ctl"), verb, *arguments],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)

    def batches(self, kind, requests, batch):
        return [f"{lab.TOP}/tests/tools/nbd-batch.py", self.path("nbd"), "disk", kind, str(requests), str(batch)]

    def fio(self, kind, requests):
        return ["fio", "--name=f", "--ioengine=nbd", f"--uri=nbd+unix:///disk?socket={self.path('nbd')}",
                f"--rw=rand{kind}", "--bs=4k", "--iodepth=32", "--size=1G",
                f"--number_ios={requests}", "--thread", "--output", self.path("fio")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(command):
    subprocess.run(command, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)


# ---- system calls and switches

def perf(pid, command):
    return ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", str(pid), "--", *command]


def has_tracepoint():
    """Whether the kernel counts system calls for us."""
    try:
        done = subprocess.run(perf(os.getpid(), ["true"]), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0 and "not supported" not in done.stderr


def calls_by_perf(pid, command):
    done = subprocess.run(perf(pid, command), capture_output=True, text=True, check=True, timeout=PATIENCE)
    return int(re.search(r"^(\d+),", done.stderr, re.M).group(1))


def calls_by_strace(pid, command):
    with tempfile.NamedTemporaryFile("r") as summary:
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", summary.name, "-p", str(pid)],
                                  stderr=subprocess.PIPE, text=True)
        tracer.stderr.readline()  # "attached"
        try:
            run(command)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        total = next(line for line in summary if line.rstrip().endswith(" total"))
        return int(total.split()[3])  # share, seconds, microseconds a call, calls


def kernel_costs(directory, build):
    count_calls = calls_by_perf if has_tracepoint() else calls_by_strace
    with Daemon(directory, build, [f"null:{NULL_SIZE}"]) as daemon:
        pid = daemon.process.pid
        for kind in ("read", "write"):
            for name, command in (("d1", daemon.batches(kind, REQUESTS, 1)),
                                  ("b32", daemon.batches(kind, REQUESTS, 32)),
                                  ("fio32", daemon.fio(kind, REQUESTS))):
                yield f"null-{kind}-{name}-calls", count_calls(pid, command) / REQUESTS
                before = procfs.switches([pid])
                run(command)
                yield f"null-{kind}-{name}-switches", (procfs.switches([pid]) - before) / REQUESTS


# ---- instructions

def instructions_by_object(path):
    """Self cost of each object in a file of callgrind's."""
    names, costs = {}, collections.Counter()
    current, inclusive = None, False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("ob="):
                number, _, name = line[3:].strip().partition(" ")
                names.setdefault(number, name)
                current = names[number]
            elif line.startswith("cob="):
                number, _, name = line[4:].strip().partition(" ")
                names.setdefault(number, name)
            elif line.startswith("calls="):
                inclusive = True
            elif line[0] in "+-*0123456789":
                if not inclusive:
                    costs[os.path.basename(current or "")] += int(line.split()[1])
                inclusive = False
    return costs


def dump(daemon, out):
    """What callgrind counted since the dump before."""
    before = set(glob.glob(f"{out}.*"))
    subprocess.run(["vgdb", f"--pid={daemon.process.pid}", "dump"], check=True, timeout=PATIENCE,
                   capture_output=True)
    return (set(glob.glob(f"{out}.*")) - before).pop()


def instructions(directory, build, what, prefix, requests, batches, total=False):
    out = os.path.join(directory, f"{prefix}-callgrind")
    tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    with Daemon(directory, build, what, tool) as daemon:
        run(daemon.batches("write", 32, 1))  # connects and opens for good
        for kind in ("read", "write"):
            for name, batch in batches:
                dump(daemon, out)
                run(daemon.batches(kind, requests, batch))
                found = instructions_by_object(dump(daemon, out))
                if total:
                    yield f"{prefix}-{kind}-{name}-total", sum(found.values()) / requests
                else:
                    yield f"{prefix}-{kind}-{name}-instructions", found["urbdd"] / requests


def loop(directory, build, image, kind, requests):
    """Instructions of one run of librbd-loop, from its start to its end."""
    out = os.path.join(directory, f"loop-{kind}-{requests}")
    cluster = lab.Cluster.from_environment()
    subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"{build}/tests/bench/librbd-loop",
         "--image", image, "--conf", cluster.ceph_conf, "--id", cluster.client, "--rw", f"rand{kind}",
         "--depth", "32", "--requests", str(requests)],
        check=True, capture_output=True, text=True, timeout=PATIENCE)
    return sum(instructions_by_object(out).values())


def floor(directory, build, image, what):
    """The difference of a long run and a short one is what the requests cost, without the start."""
    few, more = 320, 3200
    yield from instructions(directory, build, what, "floor-urbdd", more, (("b32", 32),), total=True)
    for kind in ("read", "write"):
        short, long = (loop(directory, build, image, kind, requests) for requests in (few, more))
        yield f"floor-loop-{kind}-total", (long - short) / (more - few)


# ---- copies

def copied_by_us(path):
    """What called the copying function is ours if its source is known, as no library's is."""
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    frames, total = found["ftbl"], 0
    for point in found["pps"]:
        callers = [frames[index] for index in point["fs"] if "vgpreload_dhat" not in frames[index]]
        if callers and "(in " not in callers[0]:
            total += point["tb"]
    return total


def copies(directory, build, what, prefix, requests):
    out = os.path.join(directory, "dhat")
    tool = ["valgrind", "--tool=dhat", "--mode=copy", f"--dhat-out-file={out}"]
    for kind in ("read", "write"):
        with Daemon(directory, build, what, tool) as daemon:
            run(daemon.batches(kind, requests, 1))
        yield f"{prefix}-{kind}-d1-copied", copied_by_us(out) / requests


# ---- all of it

def image_of_cluster(image):
    cluster = lab.Cluster.from_environment()
    return [image, "--conf", cluster.ceph_conf, "--id", cluster.client, "--keyfile", cluster.keyfile]


def costs(directory, build, image):
    null = [f"null:{NULL_SIZE}"]
    yield from kernel_costs(directory, build)
    yield from instructions(directory, build, null, "null", INSTRUMENTED, (("d1", 1), ("b32", 32)))
    yield from copies(directory, build, null, "null", INSTRUMENTED)
    if image:
        what = image_of_cluster(image)
        yield from instructions(directory, build, what, "rbd", INSTRUMENTED_RBD, (("d1", 1),))
        yield from copies(directory, build, what, "rbd", INSTRUMENTED_RBD)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("URBD_BUILD", os.path.join(lab.TOP, "build/test")))
    parser.add_argument("--image", metavar="POOL/NAME", help="of the cluster in CEPH_CONF, CLIENT, KEYFILE; of "
                        "16 MiB at least")
    parser.add_argument("--floor", action="store_true", help="only what librbd itself costs, with urbdd and without")
    args = parser.parse_args()
    if args.floor and not args.image:
        parser.error("--floor needs --image")
    with tempfile.TemporaryDirectory(prefix="urbd-costs.") as directory:
        began = time.monotonic()
        if args.floor:
            found = floor(directory, args.build, args.image, image_of_cluster(args.image))
        else:
            found = costs(directory, args.build, args.image)
        for name, value in found:
            print(f"{name} {value:.3f}", flush=True)
        print(f"# {time.monotonic() - began:.0f} s")
    return 0
