"""Many images on one daemon: what an idle one costs, how quickly they come, whether the price of a
request stays the same, and whether a busy one leaves the others alone."""
import concurrent.futures
import dataclasses
import statistics
import subprocess
import sys
import time

from . import client, procfs
from .targets import call
from .workloads import Workload

BURST = Workload("burst", "randwrite", block=1 << 20, depth=8)
READS = Workload("flat", "randread", depth=32)
SMALL = Workload("small", "randread", depth=1)
LARGE = Workload("large", "randwrite", block=1 << 20, depth=128)
SETTLE_SECONDS = 30


class Many:
    """A target of its own beside the matrix's, with its own images."""

    def __init__(self, base, name, setup):
        self.target = type(name, (base,), {"name": name})(setup)

    def __enter__(self):
        self.target.prepare()
        return self.target

    def __exit__(self, *_):
        self.target.stop()


def each_mib(first, now, images):
    return (now.private - first.private) / 1024 / (images - 1)


def idle(base, setup, count):
    with Many(base, f"{base.name}-idle", setup) as target:
        target.ensure(1)
        first = procfs.footprint(target.pids())
        target.ensure(count)
        now = procfs.footprint(target.pids())
        burst(target, setup, count)
        time.sleep(SETTLE_SECONDS)
        after = procfs.footprint(target.pids())
    return {"images": count, "first": dataclasses.asdict(first), "all": dataclasses.asdict(now),
            "after_burst": dataclasses.asdict(after), "each_mib": each_mib(first, now, count),
            "burst_each_mib": each_mib(first, after, count)}


def burst(target, setup, count, at_once=8):
    short = dataclasses.replace(setup, seconds=1)
    for begin in range(0, count, at_once):
        group = range(begin, min(begin + at_once, count))
        shifted = Shifted(target, begin)
        client.run_fio(shifted, dataclasses.replace(BURST, images=len(group)), short)


class Shifted:
    """The same target, counted from another image on."""

    def __init__(self, target, begin):
        self.target, self.begin, self.name = target, begin, target.name

    def fio(self, index):
        return self.target.fio(self.begin + index)


def many(base, setup, count, before):
    """Threads and sockets must not grow with the number of images."""
    with Many(base, f"{base.name}-many", setup) as target:
        target.ensure(before)
        then = procfs.footprint(target.pids())
        target.ensure(count)
        now = procfs.footprint(target.pids())
    return {"images": count, "before": before, "then": dataclasses.asdict(then),
            "now": dataclasses.asdict(now), "threads_more": now.threads - then.threads,
            "sockets_more": now.sockets - then.sockets}


def opening(base, setup, count):
    """All at once on a new daemon, against a row of single ones on another."""
    with Many(base, f"{base.name}-row", setup) as target:
        began = time.monotonic()
        target.ensure(count)
        row, singles = time.monotonic() - began, target.open_seconds
    with Many(base, f"{base.name}-parallel", setup) as target:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda index: call(target.open_command(index)), range(count)))
        parallel = time.monotonic() - began
    return {"images": count, "row_seconds": row, "single_seconds": statistics.median(singles),
            "parallel_seconds": parallel, "gain": row / parallel}


def flat(base, setup, count):
    """CPU per request on one image, where the daemon has no other and where it has many."""
    with Many(base, f"{base.name}-one", setup) as alone, Many(base, f"{base.name}-flat", setup) as crowd:
        alone.ensure(1)
        crowd.ensure(count)
        one, all_ = [], []
        for _ in range(setup.runs):
            one.append(client.sample(alone, READS, setup)["cpu"])
            all_.append(client.sample(crowd, READS, setup)["cpu"])
    return {"images": count, "one_us": statistics.median(one), "all_us": statistics.median(all_),
            "ratio": statistics.median(b / a for a, b in zip(one, all_))}


def fairness(base, setup):
    """A small reader's p99: alone, beside a large writer on the same daemon, beside one on another."""
    with Many(base, f"{base.name}-fair", setup) as shared, Many(base, f"{base.name}-loud", setup) as other:
        shared.ensure(2)
        other.ensure(1)
        places = {"alone": None, "same": Shifted(shared, 1), "other": other}
        p99 = {place: [] for place in places}
        for _ in range(setup.runs):
            for place, writer in places.items():
                p99[place].append(beside(writer, setup, shared))
    return {"p99_us": {place: statistics.median(values) for place, values in p99.items()},
            "ratio": statistics.median(a / b for a, b in zip(p99["same"], p99["other"]))}


def beside(writer, setup, reader):
    longer = dataclasses.replace(setup, seconds=setup.seconds + 2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writing = pool.submit(client.run_fio, writer, LARGE, longer) if writer else None
        time.sleep(1)
        p99 = client.sample(reader, SMALL, setup)["p99"]
        if writing:
            writing.result()
    return p99


def images(parts, counts):
    """Which images each part opens: {part's suffix: how many}."""
    needed = {"idle": {"idle": counts.idle}, "many": {"many": counts.many},
              "open": {"row": counts.idle, "parallel": counts.idle},
              "flat": {"one": 1, "flat": counts.idle}, "fairness": {"fair": 2, "loud": 1}}
    return {suffix: count for part in parts for suffix, count in needed[part].items()}


@dataclasses.dataclass
class Counts:
    idle: int = 64
    many: int = 256


def run(parts, base, setup, counts):
    """Yields each part's name with what it found."""
    measures = {"idle": lambda: idle(base, setup, counts.idle),
                "many": lambda: many(base, setup, counts.many, counts.idle),
                "open": lambda: opening(base, setup, counts.idle),
                "flat": lambda: flat(base, setup, counts.idle),
                "fairness": lambda: fairness(base, setup)}
    for part in parts:
        try:
            yield part, measures[part]()
        except (RuntimeError, subprocess.SubprocessError, OSError) as problem:
            print(f"{part} cannot be measured: {problem}", file=sys.stderr, flush=True)


PARTS = ("idle", "many", "open", "flat", "fairness")
