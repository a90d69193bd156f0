"""Options, and the order of things."""
import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from . import lab, matrix, report, scale, targets, workloads

DESCRIPTION = """Measures urbd against its peers: exports on this machine, block devices where the
kernel has them or in a guest. Targets take turns within each round; figures are medians of the
rounds, and ratios are medians of the ratios within each."""
LOAD = "URBD_BENCH_LOAD"  # the machine's when the run began; a guest sees its own only
EPILOG = """Everything that is there and takes no device: %(prog)s
Devices, in a guest where this kernel lacks them:      %(prog)s --devices
Tables of both:                                        %(prog)s --only-report"""


@dataclasses.dataclass
class Setup:
    build: str
    directory: str  # sockets and logs
    cluster: lab.Cluster
    runs: int
    seconds: int
    image_mib: int


def names(known):
    def parse(text):
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no '{unknown[0]}' among {', '.join(known)}")
        return chosen
    return parse


def at_least(least):
    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number from {least} on")
        return int(text)
    return parse


def arguments():
    parser = argparse.ArgumentParser(description=DESCRIPTION, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", action="store_true", help="block devices instead of exports")
    parser.add_argument("--targets", type=names(list(targets.ALL)), metavar="NAME,...")
    parser.add_argument("--workloads", type=names(list(workloads.ALL)), metavar="NAME,...")
    parser.add_argument("--scale", type=names(scale.PARTS), default=list(scale.PARTS), metavar="PART,...",
                        help=f"parts beside the matrix: {', '.join(scale.PARTS)}")
    parser.add_argument("--no-matrix", action="store_true", help="only the parts beside it")
    parser.add_argument("--no-scale", action="store_true", help="not the parts beside the matrix")
    parser.add_argument("--runs", type=at_least(1), default=3, help="rounds (%(default)s)")
    parser.add_argument("--seconds", type=at_least(1), default=4, help="of each point (%(default)s)")
    parser.add_argument("--image-mib", type=at_least(4), default=128, help="size of each image (%(default)s)")
    parser.add_argument("--images", type=at_least(2), default=64, help="that many idle ones (%(default)s)")
    parser.add_argument("--many-images", type=at_least(2), default=256, help="and that many at most (%(default)s)")
    parser.add_argument("--peer-images", type=at_least(1), default=8, help="idle ones of the peer (%(default)s)")
    parser.add_argument("--fresh", type=at_least(1), default=5,
                        help="servers whose first images are timed (%(default)s)")
    parser.add_argument("--settle", type=at_least(0), default=30, metavar="SECONDS",
                        help="from a burst until memory is looked at (%(default)s)")
    parser.add_argument("--build", default=os.environ.get("URBD_BUILD", os.path.join(lab.TOP, "build/test")))
    parser.add_argument("--output", default=os.path.join(lab.TOP, "build/bench"), metavar="DIRECTORY")
    parser.add_argument("--only-report", action="store_true", help="write the report of earlier runs anew")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # the guest's half
    return parser.parse_args()


def say(words):
    print(words, flush=True)


# ---- what is there

def version_of(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d[\w.+~-]*", done.stdout + done.stderr)
    return found.group() if found else None


def about(args, missing):
    found = {"urbd": version_of(f"{args.build}/cli/urbd", "--version"), "librbd": version_of("rbd", "--version"),
             "fio": version_of("fio", "--version"), "qemu": version_of("qemu-nbd", "--version"),
             "nbdkit": version_of("nbdkit", "--version")}
    count = os.cpu_count()
    return {"date": datetime.date.today().isoformat(), "kernel": platform.release().split("-")[0],
            "cpus": f"{count} CPU{'s' if count > 1 else ''}",
            "versions": {name: version for name, version in found.items() if version},
            "load": float(os.environ[LOAD]), "runs": args.runs, "seconds": args.seconds,
            "image_mib": args.image_mib, "missing": missing}


def chosen_classes(args):
    kinds = targets.DEVICES if args.devices else targets.EXPORTS
    return [kind for kind in kinds if not args.targets or kind.name in args.targets]


def chosen_workloads(args):
    usual = workloads.FOR_DEVICES if args.devices else workloads.FOR_EXPORTS
    return [workloads.ALL[name] for name in args.workloads or usual]


def place(args):
    return scale.DEVICES if args.devices else scale.EXPORTS


def scale_parts(args):
    return [] if args.no_scale else args.scale


def counts(args):
    return scale.Counts(args.images, args.many_images, args.peer_images, args.fresh, args.settle)


# ---- images

def make_images(args, cluster):
    if not args.no_matrix:
        most = max(workload.images for workload in chosen_workloads(args))
        for kind in filter(targets.uses_cluster, chosen_classes(args)):
            for index in range(most):
                cluster.create(f"{kind.name}.{index}", args.image_mib, args.image_mib)
    for part in scale_parts(args):
        for images in scale.images(part, place(args), counts(args)):
            for name, filled in images.all(args.image_mib):
                cluster.create(name, args.image_mib, filled)


# ---- measuring

def measure(args, cluster):
    """What is found is saved as it comes: a run that is cut short leaves the rest of it."""
    os.environ["CEPH_CONF"] = cluster.ceph_conf
    results = {"place": "devices" if args.devices else "exports",
               "title": "Block devices" if args.devices else "Exports",
               "about": about(args, {}), "samples": [], "held": {}, "scale": {},
               "scale_target": place(args).urbd.name}
    with tempfile.TemporaryDirectory(prefix="urbd-bench.") as directory:
        setup = Setup(args.build, directory, cluster, args.runs, args.seconds, args.image_mib)
        if not args.no_matrix:
            measure_matrix(args, setup, results)
        for part, found in scale.run(scale_parts(args), place(args), setup, counts(args)):
            say(f"{part}: {found}")
            results["scale"][part] = found
            save(args, results)


def measure_matrix(args, setup, results):
    every = [kind(setup) for kind in chosen_classes(args)]
    missing = {target.name: why for target in every for why in [target.missing()] if why}
    for name, why in missing.items():
        say(f"{name} is left out: {why}")
    results["about"]["missing"] = missing
    present = [target for target in every if target.name not in missing]
    with contextlib.ExitStack() as stack:
        for target in present:
            stack.callback(target.stop)
        for workload in chosen_workloads(args):
            found = matrix.run(present, workload, setup)
            say(f"{workload.name}: {matrix.summary(found)}")
            results["samples"] += found
            results["held"] = matrix.footprints(present)
            save(args, results)


def group_of(name):
    return targets.ALL[name].group


def keep_earlier(results, earlier):
    """What this run left out stays as an earlier one found it; but never two runs within a group."""
    anew = {group_of(sample["target"]) for sample in results["samples"]}
    kept = [sample for sample in earlier["samples"] if group_of(sample["target"]) not in anew]
    held = {name: one for name, one in earlier["held"].items() if group_of(name) not in anew}
    return {**results, "samples": kept + results["samples"], "held": {**held, **results["held"]},
            "scale": {**earlier["scale"], **results["scale"]},
            "about": results["about"] if anew else earlier["about"]}


def save(args, results):
    path = os.path.join(args.output, f"{results['place']}.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            results = keep_earlier(results, json.load(file))
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def write_report(args):
    found = []
    for place in ("exports", "devices"):
        path = os.path.join(args.output, f"{place}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found.append(json.load(file))
    say(f"report: {report.write(found, args.output)}\n")
    say("\n".join(report.summary(found)))


# ---- in a guest

def measure_in_guest(args, cluster):
    """The same program, where the kernel has the devices; the images are made already."""
    options = ["--net", cluster.netns, "--rw", cluster.directory, "--rw", args.output, "--timeout", "14400",
               "--mem", "3072", "--module", "rbd", "--module", "null_blk nr_devices=4 gb=4 queue_mode=2"]
    for name, value in {LOAD: os.environ[LOAD], **cluster.environment()}.items():
        options += ["--env", f"{name}={value}"]
    subprocess.run([f"{lab.LAB}/with-kernel", *options, "--", sys.executable, *sys.argv, "--inside"], check=True)


def allow_devices(count):
    """Kernels before 6.15 have 64 of ublk unless they are told."""
    limit = "/sys/module/ublk_drv/parameters/ublks_max"
    if os.path.exists(limit):
        with open(limit, "w", encoding="ascii") as file:
            file.write(str(count))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and clean up
    args = arguments()
    os.environ.setdefault(LOAD, str(os.getloadavg()[0]))  # before this run adds to it
    os.makedirs(args.output, exist_ok=True)
    args.output = os.path.realpath(args.output)
    if args.inside:
        allow_devices(args.many_images + args.images)
        measure(args, lab.Cluster.from_environment())
        return 0
    if not args.only_report:
        run(args)
    write_report(args)
    return 0


def run(args):
    directory = tempfile.mkdtemp(prefix="urbd-bench.")
    try:
        cluster = lab.Cluster.start(f"{directory}/ceph", f"urbd-bench-{os.getpid()}" if args.devices else None)
        try:
            make_images(args, cluster)
            if args.devices:
                measure_in_guest(args, cluster)
            else:
                measure(args, cluster)
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
