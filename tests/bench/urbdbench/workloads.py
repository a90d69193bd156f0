"""What is asked of each target."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    pattern: str  # fio's rw
    block: int = 4096
    depth: int = 1
    jobs: int = 1    # clients of each image
    images: int = 1
    fsync: bool = False
    cpus: tuple = ()  # of the server and of the client; (): wherever the scheduler puts them

    def fio(self):
        """fio's options for each job."""
        options = [f"--rw={self.pattern}", f"--bs={self.block}", f"--iodepth={self.depth}", f"--numjobs={self.jobs}"]
        if self.pattern.endswith("rw"):
            options.append("--rwmixread=70")
        if self.fsync:
            options.append("--fsync=1")
        if not self.pattern.startswith("rand") and self.jobs > 1:
            options.append("--offset_increment=25%")
        return options


def everything():
    kinds = [("read", "randread"), ("write", "randwrite"), ("mixed", "randrw")]
    yield from (Workload(f"{kind}-4k-d{depth}", pattern, depth=depth)
                for kind, pattern in kinds for depth in (1, 8, 32))
    # One request at a time is a matter of who is woken where, so also with that decided.
    yield from (Workload(f"{kind}-4k-d1-{name}", pattern, cpus=cpus)
                for kind, pattern in kinds[:2] for name, cpus in (("one-cpu", (0, 0)), ("two-cpus", (0, 1))))
    yield Workload("read-4k-d16", "randread", depth=16)
    yield from (Workload(f"seq{kind}-{name}-d8", kind, block=block, depth=8)
                for name, block in (("128k", 128 << 10), ("1m", 1 << 20)) for kind in ("read", "write"))
    yield Workload("fsync-4k-d1", "randwrite", fsync=True)
    yield from (Workload(f"{kind}-4k-d{depth}-jobs4", pattern, depth=depth, jobs=4)
                for kind, pattern in kinds[:2] for depth in (1, 32))
    yield from (Workload(f"{kind}-4k-d8-images4", pattern, depth=8, images=4) for kind, pattern in kinds[:2])


ALL = {workload.name: workload for workload in everything()}
FOR_DEVICES = list(ALL)
FOR_EXPORTS = [name for name in ALL if name != "read-4k-d16"]  # an aim of devices alone
