"""What is measured. A target serves images 0, 1, ... to fio; a peer that is not installed says why not.

Each has a group, within which targets are compared, and `urbd` in a group is what the others are
held against:
    sockets-null, sockets-rbd    NBD servers on a unix socket; and librbd without one
    devices-null, devices-rbd    block devices
"""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from . import procfs

NULL_SIZE = 4 << 30


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: nothing after {seconds} seconds")
        time.sleep(0.005)


def greets(path):
    """Whether an NBD server does. One may listen before it has opened its image, but greets nobody then."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(path)
            return connection.recv(8, socket.MSG_WAITALL) == b"NBDMAGIC"
    except (FileNotFoundError, ConnectionError):
        return False


def call(command, **options):
    """Its stdout. What it says on stderr becomes the error."""
    done = subprocess.run(["timeout", "120"] + command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} failed: {done.stderr.strip()}")
    return done.stdout.strip()


class Target:
    client_serves = False  # the client's own process is what serves
    lasting_threads = True  # those that serve a client outlive it, so their switches can be read
    programs = ()
    modules = ()
    prefix = ()  # what its processes are started by

    def __init__(self, setup):
        self.setup = setup
        self.processes = []
        self.opened = 0
        self.open_seconds = []

    def missing(self):
        """Why it cannot be measured here, or None."""
        for program in self.programs:
            if not shutil.which(program):
                return f"{program} is not installed"
        for module in self.modules:
            if not self.has_module(module):
                return f"the kernel has no {module}"
        return None

    @staticmethod
    def has_module(name):
        return os.path.isdir(f"/sys/module/{name}") or \
            subprocess.run(["modprobe", "-q", name], check=False).returncode == 0

    def image(self, index):
        return f"{self.name}.{index}"

    def image_path(self, index):
        return f"{self.setup.cluster.pool}/{self.image(index)}"

    def socket(self, index=None):
        return os.path.join(self.setup.directory, f"{self.name}.{'' if index is None else index}")

    def spawn(self, command):
        log = open(os.path.join(self.setup.directory, f"{self.name}.log"), "ab")
        process = subprocess.Popen([*self.prefix, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def can(self, workload):
        """
        Several clients of one image that are no clients of one server pass its lock to and fro. CPUs
        are chosen where the server is one process that waits for the client alone.
        """
        if workload.cpus:
            return self.group == "sockets-null" and max(workload.cpus) < os.cpu_count()
        return not (self.client_serves and workload.jobs > 1)

    def prepare(self):
        """Starts what serves all images, if anything does."""

    def ensure(self, count):
        """Serves images 0 to count - 1."""
        self.prepare()
        while self.opened < count:
            began = time.monotonic()
            self.open(self.opened)
            self.open_seconds.append(time.monotonic() - began)
            self.opened += 1

    def open(self, index):
        pass

    def pids(self):
        return [process.pid for process in self.processes]

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []


class NbdTarget(Target):
    """One socket for each image."""
    export = "disk"

    def fio(self, index):
        return ["--ioengine=nbd", f"--uri=nbd+unix:///{self.export}?socket={self.socket(index)}"]

    def open(self, index):
        process = self.spawn(self.command(index))
        wait_for(lambda: greets(self.socket(index)) or process.poll() is not None, self.name)
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} did not start; see {self.name}.log")


class NbdkitNull(NbdTarget):
    name, group, programs = "nbdkit-null", "sockets-null", ("nbdkit",)
    lasting_threads = False

    def command(self, index):
        return ["nbdkit", "-f", "-U", self.socket(index), "-e", self.export, "null", str(NULL_SIZE)]


class QemuNull(NbdTarget):
    """Without read-zeroes, or it would answer reads with the word that there is a hole, and no data."""
    name, group, programs = "qemu-null", "sockets-null", ("qemu-storage-daemon",)

    def command(self, index):
        return ["qemu-storage-daemon",
                "--blockdev", f"driver=null-co,node-name=disk,size={NULL_SIZE}",
                "--nbd-server", f"addr.type=unix,max-connections=64,addr.path={self.socket(index)}",
                "--export", f"type=nbd,id=disk,node-name=disk,name={self.export},writable=on"]


class QemuRbd(NbdTarget):
    name, group, programs = "qemu-nbd-rbd", "sockets-rbd", ("qemu-nbd",)

    def missing(self):
        if not glob.glob("/usr/lib/*/qemu/block-rbd.so") + glob.glob("/usr/lib/qemu/block-rbd.so"):
            return "qemu-nbd has no rbd (package qemu-block-extra)"
        return super().missing()

    def command(self, index):
        cluster = self.setup.cluster
        return ["qemu-nbd", "-t", "-e", "64", "-k", self.socket(index), "-x", self.export, "-f", "raw",
                "--cache=none", f"rbd:{self.image_path(index)}:id={cluster.client}:conf={cluster.ceph_conf}"]


class FioRbd(Target):
    """fio's rbd engine: no server at all."""
    name, group, client_serves = "fio-rbd", "sockets-rbd", True

    def fio(self, index):
        cluster = self.setup.cluster
        # The engine has no word for a configuration file; librados takes it from CEPH_CONF.
        return ["--ioengine=rbd", f"--pool={cluster.pool}", f"--rbdname={self.image(index)}",
                f"--clientname={cluster.client}"]


class LibrbdLoop(Target):
    """librbd without fio, with urbdd's settings: one image and one client only."""
    name, group, client_serves = "librbd-loop", "sockets-rbd", True
    options = ()

    def can(self, workload):
        return super().can(workload) and workload.jobs == 1 and workload.images == 1

    def run(self, workload):
        cluster = self.setup.cluster
        command = [f"{self.setup.build}/tests/bench/librbd-loop", "--image", self.image_path(0),
                   "--conf", cluster.ceph_conf, "--id", cluster.client, "--rw", workload.pattern,
                   "--block", str(workload.block), "--depth", str(workload.depth),
                   "--seconds", str(self.setup.seconds), *self.options] + (["--fsync"] if workload.fsync else [])
        result = json.loads(call(command))
        for timed in [result] + ([result["flush"]] if "flush" in result else []):
            for name, key in (("p50", "p50_ns"), ("p99", "p99_ns"), ("p99.9", "p999_ns")):
                timed[name] = timed.pop(key) / 1000
        return result


class LibrbdSocket(LibrbdLoop):
    """The same behind a socket, for a client of its own: the least that a server can be."""
    name, options = "librbd-socket", ("--socket",)

    def can(self, workload):
        return super().can(workload) and workload.pattern in ("randread", "randwrite") and not workload.fsync


class Urbd(Target):
    """A urbdd of its own. What it serves: null, or images of the cluster."""
    null = False
    metrics = False  # or it tells its figures at socket("metrics")
    daemon_options = ()
    image_options = ()

    def prepare(self):
        if not self.processes:
            process = self.spawn([f"{self.setup.build}/daemon/urbdd", "--socket", self.socket("ctl"),
                                  "--state-dir", self.socket("state"), "--listen", f"unix:{self.socket('nbd')}",
                                  *self.daemon_options,
                                  *(["--metrics", f"unix:{self.socket('metrics')}"] if self.metrics else [])])
            wait_for(lambda: self.answers() or process.poll() is not None, self.name)
            if process.poll() is not None:
                raise RuntimeError(f"{self.name}: urbdd did not start; see {self.name}.log")

    def answers(self):
        return subprocess.run(self.urbd("version"), check=False, capture_output=True).returncode == 0

    def urbd(self, verb, *arguments):
        return [f"{self.setup.build}/cli/urbd", "--socket", self.socket("ctl"), verb, *arguments]

    def what(self, index):
        if self.null:
            return [f"null:{NULL_SIZE}"]
        cluster = self.setup.cluster
        return [self.image_path(index), "--conf", cluster.ceph_conf, "--id", cluster.client,
                "--keyfile", cluster.keyfile, *self.image_options]


class UrbdExport(Urbd):
    def open(self, index):
        call(self.open_command(index))

    def open_command(self, index):
        return self.urbd("export", *self.what(index), "--export-name", f"disk{index}")

    def fio(self, index):
        return ["--ioengine=nbd", f"--uri=nbd+unix:///disk{index}?socket={self.socket('nbd')}"]


class UrbdNull(UrbdExport):
    name, group, null = "urbd-null", "sockets-null", True


class UrbdNullUnpolled(UrbdNull):
    """What busy polling is for, and what it costs."""
    name, daemon_options = "urbd-null-unpolled", ("--busy-poll", "0")


class UrbdRbd(UrbdExport):
    name, group = "urbd-rbd", "sockets-rbd"


class UrbdRbdUnpolled(UrbdRbd):
    name, daemon_options = "urbd-rbd-unpolled", ("--busy-poll", "0")


class Device(Target):
    """Block devices. `nodes` are their paths."""

    def __init__(self, setup):
        super().__init__(setup)
        self.nodes = []

    def fio(self, index):
        return ["--ioengine=libaio", "--direct=1", f"--filename={self.nodes[index]}"]

    def open(self, index):
        self.nodes.append(self.map(index))

    def stop(self):
        for node in reversed(self.nodes):
            self.unmap(node)
        self.nodes = []
        super().stop()


class UrbdDevice(Device, Urbd):
    frontend = "ublk"

    def map(self, index):
        return call(self.open_command(index))

    def open_command(self, index):
        return self.urbd("map", *self.what(index), "--frontend", self.frontend)

    def unmap(self, node):
        call(self.urbd("unmap", node))


class UrbdUblkNull(UrbdDevice):
    name, group, modules, null = "urbd-ublk-null", "devices-null", ("ublk_drv",), True


class UrbdNbdNull(UrbdDevice):
    name, group, modules, null, frontend = "urbd-nbd-null", "devices-null", ("nbd",), True, "nbd"


class UrbdUblkRbd(UrbdDevice):
    name, group, modules = "urbd-ublk-rbd", "devices-rbd", ("ublk_drv",)


class UrbdNbdRbd(UrbdDevice):
    name, group, modules, frontend = "urbd-nbd-rbd", "devices-rbd", ("nbd",), "nbd"


def free_nbd():
    """From the end: urbdd and rbd-nbd take the first one."""
    for node in sorted(glob.glob("/sys/block/nbd*"), key=lambda n: int(n.rsplit("nbd", 1)[1]), reverse=True):
        if not os.path.exists(f"{node}/pid"):
            return "/dev/" + os.path.basename(node)
    raise RuntimeError("no free nbd device")


class NbdkitKernel(Device):
    """The kernel's NBD client on nbdkit's null."""
    name, group, modules, programs = "nbdkit-nbd-null", "devices-null", ("nbd",), ("nbdkit", "nbd-client")

    def map(self, index):
        path, node = self.socket(index), free_nbd()
        self.spawn(["nbdkit", "-f", "-U", path, "null", str(NULL_SIZE)])
        wait_for(lambda: os.path.exists(path), self.name)
        call(["nbd-client", "-unix", path, node])
        return node

    def unmap(self, node):
        call(["nbd-client", "-d", node])


class NullBlk(Device):
    """What the block layer itself costs."""
    name, group, modules = "null_blk", "devices-null", ("null_blk",)

    def map(self, index):
        return f"/dev/nullb{index}"

    def unmap(self, node):
        pass


class Krbd(Device):
    name, group, modules, programs = "krbd", "devices-rbd", ("rbd",), ("rbd",)

    def open_command(self, index):
        cluster = self.setup.cluster
        return ["rbd", "-c", cluster.ceph_conf, "--id", cluster.client, "device", "map", "-o", "noudev",
                self.image_path(index)]

    def map(self, index):
        return call(self.open_command(index))

    def unmap(self, node):
        call(["rbd", "device", "unmap", "-o", "noudev", node])


class RbdNbd(Device):
    name, group, modules, programs = "rbd-nbd", "devices-rbd", ("nbd",), ("rbd-nbd",)

    def open_command(self, index):
        cluster = self.setup.cluster
        return ["rbd-nbd", "map", "-c", cluster.ceph_conf, "--id", cluster.client, self.image_path(index)]

    def map(self, index):
        return call(self.open_command(index))

    def pids(self):
        """It goes to the background: the kernel knows who serves a device."""
        return [int(procfs.read(f"/sys/block/{os.path.basename(node)}/pid")) for node in self.nodes]

    def unmap(self, node):
        call(["rbd-nbd", "unmap", node])


class FioRbdHere(FioRbd):
    """fio on librbd beside the devices: what the same machine does without them."""
    name, group = "fio-rbd-here", "devices-rbd"


class LibrbdLoopHere(LibrbdLoop):
    name, group = "librbd-loop-here", "devices-rbd"


class LibrbdSocketHere(LibrbdSocket):
    name, group = "librbd-socket-here", "devices-rbd"


EXPORTS = [UrbdNull, UrbdNullUnpolled, NbdkitNull, QemuNull, UrbdRbd, UrbdRbdUnpolled, QemuRbd, FioRbd, LibrbdLoop,
           LibrbdSocket]
DEVICES = [UrbdUblkNull, UrbdNbdNull, NbdkitKernel, NullBlk, UrbdUblkRbd, UrbdNbdRbd, Krbd, RbdNbd,
           FioRbdHere, LibrbdLoopHere, LibrbdSocketHere]
ALL = {target.name: target for target in EXPORTS + DEVICES}


def uses_cluster(target):
    return target.group.endswith("-rbd")


def reference(group):
    """The target of a group that the others are held against."""
    return next(name for name, target in ALL.items() if target.group == group)
