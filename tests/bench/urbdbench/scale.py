"""Beside the matrix: what servers of many images cost, how quickly images come, whether the price of a
request stays the same, whether a busy image leaves the others alone, and what reading figures costs."""
import concurrent.futures
import contextlib
import dataclasses
import statistics
import subprocess
import sys
import time

from . import client, far, procfs, scrape, targets
from .matrix import in_turn
from .targets import call
from .workloads import Workload

BURST = Workload("burst", "randwrite", block=1 << 20, depth=8)
READS = Workload("flat", "randread", depth=32)
SMALL = Workload("small", "randread", depth=1)
LARGE = Workload("large", "randwrite", block=1 << 20, depth=128)
IN_FLIGHT = READS.depth
OBJECT_MIB = 4
FAR_MS = 1


@dataclasses.dataclass(frozen=True)
class Place:
    """What is measured there, and held against what."""
    urbd: type  # an RBD image
    null: type
    peer: type  # to urbd


EXPORTS = Place(targets.UrbdRbd, targets.UrbdNull, targets.QemuRbd)
DEVICES = Place(targets.UrbdUblkRbd, targets.UrbdUblkNull, targets.RbdNbd)


@dataclasses.dataclass
class Counts:
    idle: int = 64
    many: int = 256
    peers: int = 8    # idle images of the peer
    fresh: int = 5    # servers whose first images are timed
    settle: int = 30  # seconds after a burst


@dataclasses.dataclass(frozen=True)
class Images:
    """What a part opens. What was never written costs nothing to read, so what is read is filled."""
    base: type
    suffix: str
    count: int
    whole: int = 1  # so many of them are filled,
    begun: int = 0  # and so many have their first object

    def all(self, mib):
        """Each one's name, and how many MiB of it are filled."""
        for index in range(self.count):
            filled = mib if index < self.whole else OBJECT_MIB if index < self.begun else 0
            yield f"{self.base.name}-{self.suffix}.{index}", filled


def images(part, place, counts):
    spread = spread_over(counts)
    return {
        "idle": [Images(place.urbd, "idle", counts.idle), Images(place.peer, "idle", counts.peers)],
        "many": [Images(place.urbd, "many", counts.many)],
        "open": [Images(place.urbd, "row", counts.idle), Images(place.urbd, "parallel", counts.idle)],
        "far": [Images(place.urbd, "far-row", counts.idle), Images(place.urbd, "far-parallel", counts.idle)],
        "first": [Images(place.urbd, "first", 2), Images(place.peer, "first", 2)],
        "flat": [Images(place.urbd, "one", 1), Images(place.urbd, "flat", counts.idle, begun=spread),
                 Images(place.urbd, "shared", counts.idle, begun=spread)],
        "fairness": [Images(place.urbd, "fair", 2, whole=2), Images(place.urbd, "loud", 1)],
        "figures": [Images(place.urbd, "figures", 1)],
    }[part]


class Own:
    """A target of its own beside the matrix's, with its own images."""

    def __init__(self, base, suffix, setup, **settings):
        name = f"{base.name}-{suffix}"
        self.target = type(name, (base,), {"name": name, **settings})(setup)

    def __enter__(self):
        self.target.prepare()
        return self.target

    def __exit__(self, *_):
        self.target.stop()


# ---- memory and threads

def each_mib(first, now, images_):
    return (now.private - first.private) / 1024 / (images_ - 1)


def idle(place, setup, counts):
    with Own(place.urbd, "idle", setup) as target:
        target.ensure(1)
        first = procfs.footprint(target.pids())
        target.ensure(counts.idle)
        now = procfs.footprint(target.pids())
        beside = beside_peer(target, place.peer, setup, counts.peers)
        burst(target, setup, counts.idle)
        time.sleep(counts.settle)
        after = procfs.footprint(target.pids())
    return {"images": counts.idle, "first": dataclasses.asdict(first), "all": dataclasses.asdict(now),
            "after_burst": dataclasses.asdict(after), "settle_seconds": counts.settle,
            "each_mib": each_mib(first, now, counts.idle), "burst_each_mib": each_mib(first, after, counts.idle),
            **beside}


def beside_peer(target, base, setup, count):
    """What both hold while both are there, and several of the peer: what they share is nobody's own."""
    with Own(base, "idle", setup) as peer:
        if peer.missing():
            return {}
        peer.ensure(count)
        return {"beside_peer": dataclasses.asdict(procfs.footprint(target.pids())),
                "peer": {"target": base.name, "images": count, **dataclasses.asdict(procfs.footprint(peer.pids()))}}


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


def many(place, setup, counts):
    """Threads and sockets must not grow with the number of images."""
    with Own(place.urbd, "many", setup) as target:
        target.ensure(counts.idle)
        then = procfs.footprint(target.pids())
        target.ensure(counts.many)
        now = procfs.footprint(target.pids())
    return {"images": counts.many, "before": counts.idle, "then": dataclasses.asdict(then),
            "now": dataclasses.asdict(now), "threads_more": now.threads - then.threads,
            "sockets_more": now.sockets - then.sockets}


# ---- the time to open

def opening(place, setup, counts, kind="", **settings):
    """All at once on a new daemon, against a row of single ones on another."""
    with Own(place.urbd, f"{kind}row", setup, **settings) as target:
        began = time.monotonic()
        target.ensure(counts.idle)
        row, singles = time.monotonic() - began, target.open_seconds
    with Own(place.urbd, f"{kind}parallel", setup, **settings) as target:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(counts.idle) as pool:
            list(pool.map(lambda index: call(target.open_command(index)), range(counts.idle)))
        parallel = time.monotonic() - began
    return {"images": counts.idle, "row_seconds": row, "single_seconds": statistics.median(singles),
            "parallel_seconds": parallel, "gain": row / parallel}


def opening_far(place, setup, counts):
    """Here the storage answers at once, and a row of opens leaves hardly a CPU idle; elsewhere it waits."""
    with far.Far(setup.cluster, FAR_MS) as way:
        return {"ms": FAR_MS, **opening(place, setup, counts, "far-", prefix=way.prefix)}


def first(place, setup, counts):
    """A fresh daemon connects to the cluster for its first image, and need not for one more."""
    bases = [base for base in (place.urbd, place.peer) if not base(setup).missing()]
    seconds = {base.name: [] for base in bases}
    for turn in range(counts.fresh):
        for base in in_turn(bases, turn):
            with Own(base, "first", setup) as target:
                target.ensure(2)
            seconds[base.name].append(target.open_seconds)
    return {"target": place.urbd.name, "peer": place.peer.name, "seconds": seconds,
            **({"ratio": open_ratios(*seconds.values())} if len(bases) == 2 else {})}


def open_ratios(ours, theirs):
    return {name: statistics.median(a[index] / b[index] for a, b in zip(ours, theirs))
            for index, name in enumerate(("first", "one_more"))}


# ---- the price of a request

def spread_over(counts):
    return min(IN_FLIGHT, counts.idle)


def flat(place, setup, counts):
    """CPU per request where the daemon has one image, and where it has many: with the others idle,
    and with one request in flight on each of as many as there were on the one."""
    count = spread_over(counts)
    at_once, spread = Workload("at-once", "randread", jobs=count), Workload("spread", "randread", images=count)
    on_objects = dataclasses.replace(setup, image_mib=OBJECT_MIB)
    with contextlib.ExitStack() as stack:
        alone, pooled, shared = (stack.enter_context(own) for own in (
            Own(place.urbd, "one", setup), Own(place.urbd, "flat", setup),
            Own(place.urbd, "shared", setup, image_options=("--client", "shared"))))
        alone.ensure(1)
        crowds = {"pool": pooled, "shared": shared}
        for crowd in crowds.values():
            crowd.ensure(counts.idle)
        asked = {"one": (alone, READS, setup), "one_at_once": (alone, at_once, setup),
                 **{name: (crowd, READS, setup) for name, crowd in crowds.items()},
                 **{f"{name}_spread": (crowd, spread, on_objects) for name, crowd in crowds.items()}}
        rounds = [{name: cpu(*asked[name]) for name in in_turn(list(asked), turn)} for turn in range(setup.runs)]
    return {"images": counts.idle, **to(rounds, "pool", "one"), "shared": to(rounds, "shared", "one"),
            "spread": {"images": count, "pool": to(rounds, "pool_spread", "one_at_once"),
                       "shared": to(rounds, "shared_spread", "one_at_once")}}


def cpu(target, workload, setup):
    return client.sample(target, workload, setup)["cpu"]


def to(rounds, all_, one):
    return {"one_us": statistics.median(found[one] for found in rounds),
            "all_us": statistics.median(found[all_] for found in rounds),
            "ratio": statistics.median(found[all_] / found[one] for found in rounds)}


def fairness(place, setup):
    """A small reader's p99: alone, beside a large writer on the same daemon, beside one on another."""
    with Own(place.urbd, "fair", setup) as shared, Own(place.urbd, "loud", setup) as other:
        shared.ensure(2)
        other.ensure(1)
        places = {"alone": None, "same": Shifted(shared, 1), "other": other}
        p99 = {name: [] for name in places}
        for turn in range(setup.runs):
            for name in in_turn(list(places), turn):
                p99[name].append(beside(places[name], setup, shared))
    return {"p99_us": {name: statistics.median(values) for name, values in p99.items()}, "rounds": p99,
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


def figures(place, setup):
    return {base.name: while_read(base, setup) for base in (place.null, place.urbd)}


def while_read(base, setup):
    """The same daemon, with its figures read and without, in turns."""
    with Own(base, "figures", setup, metrics=True) as target:
        target.ensure(1)
        found = {"read": [], "unread": []}
        readings = 0
        for turn in range(setup.runs):
            for name in in_turn(list(found), turn):
                scraper = scrape.Scraper(target.socket("metrics"))
                with scraper if name == "read" else contextlib.nullcontext():
                    found[name].append(client.sample(target, READS, setup))
                readings += scraper.readings
    return {"readings": readings, "iops": read_to_unread(found, "iops"), "cpu": read_to_unread(found, "cpu")}


def read_to_unread(found, what):
    read, unread = ([one[what] for one in found[name]] for name in ("read", "unread"))
    return {"read": statistics.median(read), "unread": statistics.median(unread),
            "ratio": statistics.median(a / b for a, b in zip(read, unread))}


def run(parts, place, setup, counts):
    """Yields each part's name with what it found."""
    measures = {"idle": lambda: idle(place, setup, counts),
                "many": lambda: many(place, setup, counts),
                "open": lambda: opening(place, setup, counts),
                "far": lambda: opening_far(place, setup, counts),
                "first": lambda: first(place, setup, counts),
                "flat": lambda: flat(place, setup, counts),
                "fairness": lambda: fairness(place, setup),
                "figures": lambda: figures(place, setup)}
    for part in parts:
        try:
            yield part, measures[part]()
        except (RuntimeError, subprocess.SubprocessError, OSError) as problem:
            print(f"{part} cannot be measured: {problem}", file=sys.stderr, flush=True)


PARTS = ("idle", "many", "open", "far", "first", "flat", "fairness", "figures")
