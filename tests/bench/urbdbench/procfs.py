"""What the machine says of processes. A group of processes is a list of pids."""
import contextlib
import dataclasses
import os
import time

SETTLED = 0.5  # seconds
TICKS = os.sysconf("SC_CLK_TCK")


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def cpu_seconds(pids):
    """User and system time of all threads, also of those that have ended."""
    total = 0
    for pid in pids:
        fields = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def machine_seconds():
    """CPU time that the whole machine was busy, with everything that runs on it."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, read("/proc/stat").split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def tasks(pids):
    return [int(task) for pid in pids for task in os.listdir(f"/proc/{pid}/task")]


def task_named(pid, name):
    """The process's thread of this name."""
    return next(task for task in tasks([pid]) if read(f"/proc/{task}/comm").strip() == name)


def task_switches(task):
    """Context switches of one thread."""
    status = read(f"/proc/{task}/status")
    return sum(int(line.split()[1]) for line in status.splitlines() if "_ctxt_switches" in line)


def switches(pids):
    """Context switches of all threads that live."""
    total = 0
    for task in tasks(pids):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += task_switches(task)
    return total


@contextlib.contextmanager
def on_cpus(pids, cpus):
    """Keeps all threads of them, and those that they start meanwhile, on these CPUs."""
    before = os.sched_getaffinity(0)
    try:
        for task in tasks(pids):
            os.sched_setaffinity(task, cpus)
        yield
    finally:
        for task in tasks(pids):
            os.sched_setaffinity(task, before)


@dataclasses.dataclass
class Footprint:
    private: int = 0  # KiB that only this process has
    pss: int = 0      # KiB, shared pages divided by those who share them
    rss: int = 0      # KiB, with all that is shared
    threads: int = 0
    sockets: int = 0


def count_sockets(pid):
    total = 0
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            total += os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:")
        except FileNotFoundError:
            pass
    return total


def footprint(pids):
    """What they hold when they have let go of what they were about to."""
    time.sleep(SETTLED)
    total = Footprint()
    for pid in pids:
        sizes = {}
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines()[1:]:
            name, size = line.split()[:2]
            sizes[name.rstrip(":")] = int(size)
        total.private += sizes["Private_Clean"] + sizes["Private_Dirty"]
        total.pss += sizes["Pss"]
        total.rss += sizes["Rss"]
        total.threads += len(os.listdir(f"/proc/{pid}/task"))
        total.sockets += count_sockets(pid)
    return total
