"""The cluster that holds the images: a throwaway one of tests/lab, or what the environment names."""
import os
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
LAB = os.path.join(TOP, "tests/lab")
SETTINGS = ["CEPH_CONF", "MONITORS", "POOL", "CLIENT", "KEYRING", "KEYFILE", "NETNS"]


class Cluster:
    def __init__(self, directory, settings):
        self.directory = directory  # None: not ours to stop
        for name in SETTINGS:
            setattr(self, name.lower(), settings.get(name, ""))

    @classmethod
    def start(cls, directory, netns=None):
        """In memory, so that the clients' cost is not lost in the storage's; no cache in librbd, for
        all of the clients alike: a completed write is a stored one."""
        command = [f"{LAB}/cluster", "start", directory, "--store", "memstore",
                   "--set", "rbd cache = false"] + (["--netns", netns] if netns else [])
        try:
            subprocess.run(command, check=True)
        except BaseException:
            subprocess.run([f"{LAB}/cluster", "stop", directory, "--wipe"], check=False)
            raise
        with open(f"{directory}/env", encoding="ascii") as file:
            lines = file.read().replace("export ", "").splitlines()
        return cls(directory, {k: v.strip('"') for k, v in (line.split("=", 1) for line in lines)})

    @classmethod
    def from_environment(cls):
        return cls(None, os.environ)

    def stop(self):
        if self.directory:
            subprocess.run([f"{LAB}/cluster", "stop", self.directory, "--wipe"], check=False)

    def environment(self):
        return {name: getattr(self, name.lower()) for name in SETTINGS}

    def near(self, command, **options):
        """Runs a command where the cluster can be reached."""
        inside = ["ip", "netns", "exec", self.netns] if self.netns and self.directory else []
        return subprocess.run(["timeout", "120"] + inside + command, check=True, text=True, **options)

    def rbd(self, *arguments):
        self.near(["rbd", "-c", self.ceph_conf, "--id", self.client, *arguments], stdout=subprocess.DEVNULL)

    def create(self, image, mib, filled):
        """An image whose first MiB hold data: what was never written costs nothing to read."""
        self.rbd("create", f"{self.pool}/{image}", "--size", f"{mib}M")
        if filled:
            self.rbd("bench", "--io-type", "write", "--io-size", "4M", "--io-threads", "4", "--io-total",
                     f"{filled}M", f"{self.pool}/{image}")
