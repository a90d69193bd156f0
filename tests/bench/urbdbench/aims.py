"""What the project wants to reach, and what a run says about it.

Each aim yields its text, the figure and the bound as text, and whether it holds (None: not
measured in this run).
"""
import dataclasses
import statistics

from .figures import Figures


@dataclasses.dataclass
class Aim:
    text: str
    figure: str
    bound: str
    holds: bool


def at_most(text, value, bound, unit=""):
    return Aim(text, f"{value:.2f}{unit}", f"≤ {bound:g}{unit}", value <= bound) if value is not None else None


def at_least(text, value, bound, unit=""):
    return Aim(text, f"{value:.2f}{unit}", f"≥ {bound:g}{unit}", value >= bound) if value is not None else None


def sockets_rbd(figures):
    ours, loop, qemu = "urbd-rbd", "librbd-loop", "qemu-nbd-rbd"
    for kind in ("read", "write"):
        yield at_most(f"RBD export, 4 KiB {kind}, depth 32: server CPU to the bare callback loop's",
                      figures.ratio(ours, loop, f"{kind}-4k-d32", "cpu"), 1.25)
    yield at_most("RBD export, 4 KiB read, depth 32: server CPU to qemu-nbd's",
                  figures.ratio(ours, qemu, "read-4k-d32", "cpu"), 0.35)
    for kind in ("read", "write"):
        yield at_least(f"RBD export, 4 KiB {kind}, depth 32: IOPS to qemu-nbd's",
                       figures.ratio(ours, qemu, f"{kind}-4k-d32", "iops"), 1.3)
    for kind in ("read", "write"):
        yield depth_one(figures, kind)


def depth_one(figures, kind):
    """A round trip of the socket: what the quicker of the peers without storage needs for one."""
    ours, direct, *peers = (figures.rounds(name, f"{kind}-4k-d1", "p50")
                            for name in ("urbd-rbd", "fio-rbd", "nbdkit-null", "qemu-null"))
    trips = {turn: min(peer[turn] for peer in peers if turn in peer) for turn in set().union(*peers)}
    ratios = [ours[turn] / (1.15 * direct[turn] + trips[turn]) for turn in ours if turn in direct and turn in trips]
    return at_most(f"RBD export, 4 KiB {kind}, depth 1: median latency to 1.15 × fio's rbd engine + "
                   "a round trip of the socket", statistics.median(ratios) if ratios else None, 1)


def to_null_peers(figures, workload, what):
    return [r for r in (figures.ratio("urbd-null", peer, workload, what)
                        for peer in ("nbdkit-null", "qemu-null")) if r]


def sockets_null(figures):
    points = {"d1": "depth 1", "d1-one-cpu": "depth 1, both on one CPU", "d1-two-cpus": "depth 1, each on its own CPU",
              "d8": "depth 8", "d32": "depth 32", "d1-jobs4": "4 connections, depth 1",
              "d32-jobs4": "4 connections, depth 32"}
    for kind in ("read", "write"):
        yield at_most(f"null export, 4 KiB {kind}, depth 32: server CPU to the better peer's",
                      max(to_null_peers(figures, f"{kind}-4k-d32", "cpu"), default=None), 0.75)
        for name, text in points.items():
            yield at_least(f"null export, 4 KiB {kind}, {text}: IOPS to the better peer's",
                           min(to_null_peers(figures, f"{kind}-4k-{name}", "iops"), default=None), 1)


def devices(figures):
    yield at_least("ublk null, depth 16: IOPS to kernel NBD's with nbdkit null",
                   figures.ratio("urbd-ublk-null", "nbdkit-nbd-null", "read-4k-d16", "iops"), 3)
    ours = "urbd-ublk-rbd"
    for kind in ("read", "write"):
        workload = f"{kind}-4k-d32"
        yield at_least(f"RBD through ublk, 4 KiB {kind}, depth 32: IOPS to rbd-nbd's",
                       figures.ratio(ours, "rbd-nbd", workload, "iops"), 1.5)
        yield at_most(f"RBD through ublk, 4 KiB {kind}, depth 32: server CPU to rbd-nbd's",
                      figures.ratio(ours, "rbd-nbd", workload, "cpu"), 0.6)
        yield at_least(f"RBD through ublk, 4 KiB {kind}, depth 32: IOPS to fio's directly on librbd",
                       figures.ratio(ours, "fio-rbd-here", workload, "iops"), 0.9)


def opens(parts, opened):
    """A daemon's first image connects to the cluster, as each of rbd-nbd's does; later ones need not."""
    if parts.get("first", {}).get("peer") == "rbd-nbd" and "ratio" in parts["first"]:
        ratio = parts["first"]["ratio"]
        yield at_most("a fresh daemon's first image mapped: time to rbd-nbd's", ratio["first"], 0.5)
        yield at_most("one more image mapped: time to rbd-nbd's", ratio["one_more"], 0.5)
    if "open" in parts:
        yield at_least(f"{parts['open']['images']} images {opened} in parallel: rate to a row of single ones",
                       parts["open"]["gain"], 4)
    if "far" in parts:
        yield at_least(f"the same where the cluster is {parts['far']['ms']} ms away, each way", parts["far"]["gain"], 4)


def to_peers(idle, what):
    """An image's part of it to a process's of the peer."""
    return (idle["beside_peer"][what] / idle["images"]) / (idle["peer"][what] / idle["peer"]["images"])


def memory(parts, opened):
    idle, many = parts.get("idle"), parts.get("many")
    if idle:
        which = f"{idle['images']} idle images {opened}"
        if idle.get("peer", {}).get("target") == "rbd-nbd":
            for what, text in (("rss", "resident"), ("private", "private")):
                yield at_most(f"{which}: {text} memory to as many rbd-nbd's", to_peers(idle, what), 0.1)
        yield at_most(f"{which}: private memory of each over the first", idle["each_mib"], 0.6, " MiB")
        yield at_most(f"{which}: the same {idle.get('settle_seconds', 30)} s after a burst of 1 MiB I/O to all of them",
                      idle["burst_each_mib"], 1, " MiB")
    if many:
        for what in ("threads", "sockets"):
            yield at_most(f"{many['images']} images {opened}: {what} more than with {many['before']}",
                          many[f"{what}_more"], 0)


def behaviour(parts, opened):
    if "flat" in parts:
        yield at_most(f"{parts['flat']['images']} images {opened}: CPU per request on one of them to that where "
                      "there is one", parts["flat"]["ratio"], 1.1)
    if "fairness" in parts:
        yield at_most(f"4 KiB depth-1 p99 beside 1 MiB writes at depth 128, both {opened}: one daemon to two",
                      parts["fairness"]["ratio"], 1.1)


def reading(parts, opened):
    """What the bench can see is its noise: a twentieth."""
    for name, found in parts.get("figures", {}).items():
        for what, text, judge, bound in (("cpu", "CPU per request", at_most, 1.05), ("iops", "IOPS", at_least, 0.95)):
            yield judge(f"{name}, 4 KiB read, depth 32: {text} with the figures read ten times a second to that "
                        "without", found[what]["ratio"], bound)


def scale(results):
    opened = {"exports": "exported", "devices": "mapped"}[results["place"]]
    for aims in (opens, memory, behaviour, reading):
        yield from aims(results["scale"], opened)


def all_of(all_results):
    figures = Figures([sample for results in all_results for sample in results["samples"]])
    for aims in (sockets_rbd(figures), sockets_null(figures), devices(figures), *map(scale, all_results)):
        yield from (aim for aim in aims if aim)
