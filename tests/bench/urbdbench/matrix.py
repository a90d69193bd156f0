"""Every workload on every target. Within a round the targets take turns, so that what else the
machine does meets all of them alike; figures are compared within a round."""
import dataclasses

from . import client, procfs


def in_turn(some, turn):
    """All of them, from another one on each time."""
    start = turn % max(len(some), 1)
    return some[start:] + some[:start]


def run(targets, workload, setup):
    samples = []
    able = [target for target in targets if target.can(workload)]
    for target in able:
        target.ensure(workload.images)
    for turn in range(setup.runs):
        for target in in_turn(able, turn):
            figures = client.sample(target, workload, setup)
            samples.append({"target": target.name, "workload": workload.name, "round": turn, **figures})
    return samples


def summary(samples):
    """The last round's IOPS, for who waits for the end."""
    return ", ".join(f"{target} {iops:.0f}" for target, iops in {s["target"]: s["iops"] for s in samples}.items())


def footprints(targets):
    """What each target's processes hold by now, and how long it took to open an image."""
    held = {}
    for target in targets:
        pids = target.pids()
        held[target.name] = {"images": target.opened, "open_seconds": target.open_seconds,
                             "processes": len(pids)}
        if pids:
            held[target.name].update(dataclasses.asdict(procfs.footprint(pids)))
    return held
