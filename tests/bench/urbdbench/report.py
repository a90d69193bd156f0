"""What a run found, for people: Markdown with tables, and a picture for each group."""
import os

from . import aims, plot, targets
from .figures import FEWEST, Figures

TITLES = {"sockets-null": "NBD over a unix socket, nothing stored", "sockets-rbd": "RBD images without a device",
          "devices-null": "Block devices, nothing stored", "devices-rbd": "RBD images as block devices"}
COLUMNS = [("iops", "IOPS", 0), ("p50", "p50 µs", 0), ("p99", "p99 µs", 0), ("p99.9", "p99.9 µs", 0),
           ("cpu", "CPU µs", 1), ("machine", "machine µs", 1), ("switches", "switches", 2)]
RATIOS = [("iops", "IOPS"), ("p99", "p99"), ("cpu", "CPU")]


def number(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def table(header, lines):
    yield "| " + " | ".join(header) + " |"
    yield "|" + "|".join("---" if index < 2 else "--:" for index in range(len(header))) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def matrix_line(figures, reference, target, workload):
    values = [number(figures.median(target, workload, figure), digits) for figure, _, digits in COLUMNS]
    ratios = ["" if target == reference else ratio_text(figures.ratio(reference, target, workload, figure))
              for figure, _ in RATIOS]
    return [workload, target] + values + ratios


def ratio_text(ratio):
    return "–" if ratio is None else f"×{ratio:.2f}"


def group_members(results, group):
    measured = {sample["target"] for sample in results["samples"]}
    return [name for name, target in targets.ALL.items() if target.group == group and name in measured]


def groups(results):
    for group, title in TITLES.items():
        members = group_members(results, group)
        if members:
            yield group, title, members


def matrix(results, figures, directory):
    for group, title, members in groups(results):
        reference, peers = members[0], members[1:]
        workloads = figures.workloads(members)
        yield f"### {title}"
        yield ""
        if peers and reference == targets.reference(group):
            name = f"{results['place']}-{group}.svg"
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(plot.draw(figures, reference, peers, workloads, title))
            yield f"![{title}]({name})"
            yield ""
        header = ["workload", "target"] + [title for _, title, _ in COLUMNS] + \
                 [f"{reference}: {title}" for _, title in RATIOS]
        yield from table(header, [matrix_line(figures, reference, target, workload)
                                  for workload in workloads for target in members
                                  if figures.has(target, workload)])


def held(results):
    lines = []
    for name, one in results["held"].items():
        opened = sorted(one["open_seconds"])
        milliseconds = number(opened[len(opened) // 2] * 1000, 0) if opened else "–"
        sizes = [number(one[key] / 1024, 1) if key in one else "–" for key in ("private", "pss")]
        lines.append([name, str(one["images"]), milliseconds, str(one["processes"]), *sizes,
                      str(one.get("threads", "–")), str(one.get("sockets", "–"))])
    yield "### Memory, threads, and the time to open an image"
    yield ""
    yield from table(["target", "images", "open, ms", "processes", "private MiB", "PSS MiB", "threads", "sockets"],
                     lines)


def scale_lines(scale):
    if "idle" in scale:
        idle = scale["idle"]
        yield (f"- {idle['images']} idle images: {idle['each_mib']:.2f} MiB private each over the first, "
               f"{idle['all']['threads']} threads, {idle['all']['sockets']} sockets in all; "
               f"{idle['burst_each_mib']:.2f} MiB each 30 s after a burst of 1 MiB writes to all of them")
    if "many" in scale:
        many = scale["many"]
        yield (f"- {many['images']} images: {many['now']['threads']} threads and {many['now']['sockets']} sockets, "
               f"with {many['before']} images {many['then']['threads']} and {many['then']['sockets']}; "
               f"{many['now']['private'] / 1024:.0f} MiB private in all")
    if "open" in scale:
        opened = scale["open"]
        yield (f"- {opened['images']} images one after the other {opened['row_seconds']:.2f} s "
               f"({opened['single_seconds'] * 1000:.0f} ms each), all at once {opened['parallel_seconds']:.2f} s: "
               f"×{opened['gain']:.1f}")
    if "flat" in scale:
        flat = scale["flat"]
        yield (f"- 4 KiB reads, depth 32, on one of {flat['images']} images: {flat['all_us']:.1f} µs CPU each; "
               f"where there is one image {flat['one_us']:.1f} µs: ×{flat['ratio']:.2f}")
    if "fairness" in scale:
        p99 = scale["fairness"]["p99_us"]
        yield (f"- p99 of 4 KiB reads, depth 1: alone {p99['alone']:.0f} µs; beside 1 MiB writes, depth 128, to "
               f"another image of the same daemon {p99['same']:.0f} µs, of another daemon {p99['other']:.0f} µs: "
               f"×{scale['fairness']['ratio']:.2f}")


def scale(results):
    if results["scale"]:
        yield f"### Many images ({results['scale_target']})"
        yield ""
        yield from scale_lines(results["scale"])
        yield ""


def aim_table(all_results):
    found = list(aims.all_of(all_results))
    if found:
        yield "## The aims"
        yield ""
        yield from table(["aim", "bound", "figure", ""],
                         [[aim.text, aim.bound, aim.figure, "reached" if aim.holds else "**missed**"]
                          for aim in found])


def about(results):
    made = results["about"]
    yield f"## {results['title']}"
    yield ""
    yield (f"{made['date']}, {made['cpus']}, kernel {made['kernel']}, " +
           ", ".join(f"{name} {version}" for name, version in made["versions"].items()) +
           f". {made['runs']} rounds of {made['seconds']} s; images of {made['image_mib']} MiB. Load of the machine "
           f"when it began: {made['load']:.1f}. No ratio is made of points with less than {FEWEST} requests.")
    yield ""
    for name, why in made["missing"].items():
        yield f"- {name} was not measured: {why}"
    yield ""


def markdown(results, directory):
    figures = Figures(results["samples"])
    for part in (about(results), matrix(results, figures, directory), held(results),
                 scale(results)):
        yield from part


def write(all_results, directory):
    lines = list(aim_table(all_results))
    for results in all_results:
        lines += markdown(results, directory)
    path = os.path.join(directory, "report.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path
