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


def open_time(held, parts):
    """A daemon's first map connects to the cluster, as each of rbd-nbd's does; later ones need not."""
    ours, peer = (held.get(name, {}).get("open_seconds") for name in ("urbd-ublk-rbd", "rbd-nbd"))
    if ours and peer:
        yield at_most("map of the first images to devices: time to rbd-nbd's",
                      statistics.median(ours) / statistics.median(peer), 0.5)
    if peer and "open" in parts:
        yield at_most("map of one more image to a device: time to rbd-nbd's",
                      parts["open"]["single_seconds"] / statistics.median(peer), 0.5)


def in_parallel(parts, what):
    if "open" in parts:
        yield at_least(f"images {what} in parallel: rate to a row of single ones", parts["open"]["gain"], 4)


def memory(held, parts):
    """As many processes of rbd-nbd, by the private memory of the one or few that ran."""
    peer, idle = held.get("rbd-nbd"), parts.get("idle")
    if peer and idle:
        yield at_most(f"{idle['images']} idle images on one daemon: private memory to as many rbd-nbd's",
                      idle["all"]["private"] / (peer["private"] / peer["images"] * idle["images"]), 0.1)


def scale(parts):
    idle = parts.get("idle")
    if idle:
        yield at_most("64 idle images: private memory of each over the first", idle["each_mib"], 0.6, " MiB")
        yield at_most("30 s after a burst of 1 MiB I/O to all of them", idle["burst_each_mib"], 1, " MiB")
    many = parts.get("many")
    if many:
        yield at_most(f"{many['images']} images: threads more than with {many['before']}",
                      many["threads_more"], 0)
        yield at_most(f"{many['images']} images: sockets more than with {many['before']}",
                      many["sockets_more"], 0)
    if "flat" in parts:
        yield at_most("CPU per request with 64 images to that with one", parts["flat"]["ratio"], 1.1)
    if "fairness" in parts:
        yield at_most("4 KiB depth-1 p99 beside 1 MiB writes at depth 128: one daemon to two",
                      parts["fairness"]["ratio"], 1.1)


def merged(all_results):
    """Exports and devices as one; of what both have, the exports'."""
    samples, held, parts = [], {}, {}
    for results in reversed(all_results):
        samples += results["samples"]
        held.update(results["held"])
        parts.update(results["scale"])
    return samples, held, parts


def scale_of(all_results, place):
    return next((results["scale"] for results in all_results if results["place"] == place), {})


def all_of(all_results):
    samples, held, parts = merged(all_results)
    figures = Figures(samples)
    exported, mapped = (scale_of(all_results, place) for place in ("exports", "devices"))
    for aims in (sockets_rbd(figures), sockets_null(figures), devices(figures), open_time(held, mapped),
                 in_parallel(exported, "exported"), in_parallel(mapped, "mapped to devices"),
                 memory(held, parts), scale(parts)):
        yield from (aim for aim in aims if aim)
