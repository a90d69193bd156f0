"""Runs one workload on one target, and says what came of it."""
import contextlib
import json
import os
import subprocess
import time

from . import procfs


def run_fio(target, workload, setup):
    """fio's own words, and the CPU seconds of its process."""
    command = ["fio", "--output-format=json", "--unified_rw_reporting=1", "--group_reporting", "--thread",
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
    mixed = job["mixed"]
    latency = mixed["clat_ns"]["percentile"]
    return {"requests": mixed["total_ios"], "seconds": mixed["runtime"] / 1000,
            "p50": latency["50.000000"] / 1000, "p99": latency["99.000000"] / 1000,
            "p99.9": latency["99.900000"] / 1000}


def children_seconds():
    times = os.times()
    return times.children_user + times.children_system


def sample(target, workload, setup):
    """One run. Times are in microseconds, CPU is per request."""
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
        "p50": result["p50"], "p99": result["p99"], "p99.9": result["p99.9"],
        "cpu": server_cpu / requests * 1e6 if pids or target.client_serves else None,
        "machine": (procfs.machine_seconds() - machine) / requests * 1e6,
        "switches": (procfs.switches(pids) - switches) / requests
        if pids and target.lasting_threads else None,
    }
    time.sleep(0.2)  # what the run left to do is not the next one's
    return figures
