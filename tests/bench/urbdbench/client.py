"""Runs one workload on one target, and says what came of it."""
import contextlib
import json
import os
import subprocess
import time

from . import procfs


def run_fio(target, workload, setup):
    """What fio says of all its jobs together."""
    command = ["fio", "--output-format=json", "--unified_rw_reporting=both", "--group_reporting", "--thread",
               "--time_based", f"--runtime={setup.seconds}", "--percentile_list=50:99:99.9",
               f"--size={setup.image_mib}M", "--norandommap", "--randrepeat=0"] + workload.fio()
    if workload.cpus:
        command += [f"--cpus_allowed={workload.cpus[1]}"]
    for index in range(workload.images):
        command += [f"--name=image{index}"] + target.fio(index)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=setup.seconds * 10 + 120)
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"{target.name}: fio failed on {workload.name}: {errors or output}")
    return json.loads(output[output.index("{"):])["jobs"][0]


def result_of_fio(job):
    mixed, sync = job["mixed"], job["sync"]
    result = {"requests": mixed["total_ios"], "seconds": mixed["runtime"] / 1000, **latencies(mixed["clat_ns"])}
    if sync["total_ios"]:
        result["flush"] = {"requests": sync["total_ios"], **latencies(sync["lat_ns"])}
    return result


def latencies(found):
    return {name: found["percentile"][key] / 1000
            for name, key in (("p50", "50.000000"), ("p99", "99.000000"), ("p99.9", "99.900000"))}


def children_seconds():
    times = os.times()
    return times.children_user + times.children_system


def sample(target, workload, setup):
    """One run. Times are in microseconds, CPU is per request. A write that is to be flushed is one
    request with its flush, and the latencies of both are apart."""
    pids = target.pids()
    server, machine, switches = procfs.cpu_seconds(pids), procfs.machine_seconds(), procfs.switches(pids)
    client = children_seconds()
    with procfs.on_cpus(pids, workload.cpus[:1]) if workload.cpus else contextlib.nullcontext():
        result = target.run(workload) if hasattr(target, "run") else result_of_fio(run_fio(target, workload, setup))
    requests = max(result["requests"], 1)
    if target.client_serves:
        server_cpu = result.pop("cpu_seconds", None) or children_seconds() - client
    else:
        server_cpu = procfs.cpu_seconds(pids) - server
    figures = {
        "requests": result["requests"],
        "iops": result["requests"] / result["seconds"],
        "mib/s": result["requests"] / result["seconds"] * workload.block / (1 << 20),
        **{name: result[name] for name in ("p50", "p99", "p99.9", "flush") if name in result},
        "cpu": server_cpu / requests * 1e6 if pids or target.client_serves else None,
        "machine": (procfs.machine_seconds() - machine) / requests * 1e6,
        "switches": (procfs.switches(pids) - switches) / requests
        if pids and target.lasting_threads else None,
    }
    time.sleep(0.2)  # what the run left to do is not the next one's
    return figures
