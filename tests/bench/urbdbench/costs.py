"""What a request costs urbdd in what no noise can explain: a line `NAME VALUE` for each count.

calls         system calls (by the kernel's tracepoint, or strace where that is closed): with null of the
              whole daemon, with RBD of its queue thread, since the others are librbd's
switches      context switches of the same threads
instructions  of urbdd's own code, without libraries (callgrind)
total         instructions of the whole process, with librbd and all other libraries: of urbdd (b32), and
              of librbd-loop with 32 in flight, which is the floor (--floor)
ratio         of these two
copied        bytes that urbdd's own code moves with memcpy and its like (dhat); the compiler's own copies
              of a few bytes, and the kernel's, are not in it

All of it is for requests of 4 KiB to an export on a unix socket: of null, and of an image of the
cluster in the environment where there is one. `d1` is one request at a time, `b32` a client that
writes 32 of them at once, `fio32` fio with 32 in flight, which writes them one by one. The daemon
does not poll busily: whether it does depends on the machine's scheduling.
"""
import argparse
import collections
import glob
import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

from . import lab, procfs
from .targets import NULL_SIZE, wait_for

REQUESTS = 20000          # in native runs
REQUESTS_RBD = 2000
REPETITIONS = 3           # of what the machine's scheduling has a say in: the median is told
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
                [*tool, f"{build}/daemon/urbdd", "--queues", "1", "--busy-poll", "0", "--socket", self.path("ctl"),
                 "--state-dir", self.path("state"), "--listen", f"unix:{self.path('nbd')}"],
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

    def client(self, name, kind, requests):
        if name == "fio32":
            return self.fio(kind, requests)
        return self.batches(kind, requests, int(name[1:]))

    def queue_thread(self):
        return procfs.task_named(self.process.pid, "urbd-queue0")

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

class Threads:
    """Whose system calls and switches are counted: all threads of a process, or one."""

    def __init__(self, number, alone):
        self.number, self.alone = number, alone

    def switches(self):
        return procfs.task_switches(self.number) if self.alone else procfs.switches([self.number])

    def perf(self, command):
        return ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-t" if self.alone else "-p",
                str(self.number), "--", *command]

    def strace(self, summary):
        return ["strace", *([] if self.alone else ["-f"]), "-c", "-o", summary, "-p", str(self.number)]


def has_tracepoint():
    """Whether the kernel counts system calls for us."""
    try:
        done = subprocess.run(Threads(os.getpid(), False).perf(["true"]), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0 and "not supported" not in done.stderr


def calls_by_perf(threads, command):
    done = subprocess.run(threads.perf(command), capture_output=True, text=True, check=True, timeout=PATIENCE)
    return int(re.search(r"^(\d+),", done.stderr, re.M).group(1))


def calls_by_strace(threads, command):
    with tempfile.NamedTemporaryFile("r") as summary:
        tracer = subprocess.Popen(threads.strace(summary.name), stderr=subprocess.PIPE, text=True)
        tracer.stderr.readline()  # "attached"
        try:
            run(command)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        total = next(line for line in summary if line.rstrip().endswith(" total"))
        return int(total.split()[3])  # share, seconds, microseconds a call, calls


def switches(threads, command):
    before = threads.switches()
    run(command)
    return threads.switches() - before


def median(count, threads, command):
    return statistics.median(count(threads, command) for _ in range(REPETITIONS))


def kernel_costs(directory, build, what, prefix, requests, clients, alone=False):
    count_calls = calls_by_perf if has_tracepoint() else calls_by_strace
    with Daemon(directory, build, what) as daemon:
        threads = Threads(daemon.queue_thread() if alone else daemon.process.pid, alone)
        run(daemon.client("d1", "write", 32))  # connects and opens for good
        for kind in ("read", "write"):
            for name in clients:
                command = daemon.client(name, kind, requests)
                yield f"{prefix}-{kind}-{name}-calls", median(count_calls, threads, command) / requests
                yield f"{prefix}-{kind}-{name}-switches", median(switches, threads, command) / requests


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


def instructions(directory, build, what, prefix, requests, clients, total=False):
    out = os.path.join(directory, f"{prefix}-callgrind")
    tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    with Daemon(directory, build, what, tool) as daemon:
        run(daemon.client("d1", "write", 32))  # connects and opens for good
        for kind in ("read", "write"):
            for name in clients:
                dump(daemon, out)
                run(daemon.client(name, kind, requests))
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
    served = dict(instructions(directory, build, what, "floor-urbdd", more, ("b32",), total=True))
    yield from served.items()
    for kind in ("read", "write"):
        short, long = (loop(directory, build, image, kind, requests) for requests in (few, more))
        bare = (long - short) / (more - few)
        yield f"floor-loop-{kind}-total", bare
        yield f"floor-{kind}-ratio", served[f"floor-urbdd-{kind}-b32-total"] / bare


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
            run(daemon.client("d1", kind, requests))
        yield f"{prefix}-{kind}-d1-copied", copied_by_us(out) / requests


# ---- all of it

def image_of_cluster(image):
    cluster = lab.Cluster.from_environment()
    return [image, "--conf", cluster.ceph_conf, "--id", cluster.client, "--keyfile", cluster.keyfile]


def costs(directory, build, image):
    null = [f"null:{NULL_SIZE}"]
    yield from kernel_costs(directory, build, null, "null", REQUESTS, ("d1", "b32", "fio32"))
    yield from instructions(directory, build, null, "null", INSTRUMENTED, ("d1", "b32"))
    yield from copies(directory, build, null, "null", INSTRUMENTED)
    if image:
        what = image_of_cluster(image)
        yield from kernel_costs(directory, build, what, "rbd", REQUESTS_RBD, ("d1", "b32"), alone=True)
        yield from instructions(directory, build, what, "rbd", INSTRUMENTED_RBD, ("d1",))
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
