"""What a run found, for people: Markdown with tables, and a picture for each group."""
import os
import statistics

from . import aims, plot, targets
from .figures import FEWEST, Figures

TITLES = {"sockets-null": "NBD over a unix socket, nothing stored", "sockets-rbd": "RBD images without a device",
          "devices-null": "Block devices, nothing stored", "devices-rbd": "RBD images as block devices"}
COLUMNS = [("iops", "IOPS", 0), ("p50", "p50 µs", 0), ("p99", "p99 µs", 0), ("p99.9", "p99.9 µs", 0),
           ("cpu", "CPU µs", 1), ("machine", "machine µs", 1), ("switches", "switches", 2)]
SPREADS = ("iops", "cpu")  # whose least and most of the rounds are told
RATIOS = [("iops", "IOPS"), ("p50", "p50"), ("p99", "p99"), ("p99.9", "p99.9"), ("cpu", "CPU"),
          ("machine", "machine")]


def number(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def table(header, lines):
    yield "| " + " | ".join(header) + " |"
    yield "|" + "|".join("---" if index < 2 else "--:" for index in range(len(header))) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def figure_columns():
    for figure, title, _ in COLUMNS:
        yield title
        if figure in SPREADS:
            yield "rounds"


def figure_cells(figures, target, workload):
    for figure, _, digits in COLUMNS:
        yield number(figures.median(target, workload, figure), digits)
        if figure in SPREADS:
            yield spread_text(figures.spread(target, workload, figure), digits)


def spread_text(spread, digits):
    return "–" if spread is None else " … ".join(number(value, digits) for value in spread)


def figure_table(figures, members, workloads):
    yield from table(["workload", "target", *figure_columns()],
                     [[workload, target, *figure_cells(figures, target, workload)]
                      for workload in workloads for target in members if figures.has(target, workload)])


def ratio_table(figures, reference, peers, workloads):
    yield from table(["workload", f"{reference} to", *(title for _, title in RATIOS)],
                     [[workload, peer, *(ratio_text(figures.ratio(reference, peer, workload, figure))
                                         for figure, _ in RATIOS)]
                      for workload in workloads for peer in peers
                      if figures.has(peer, workload) and figures.has(reference, workload)])


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


def compared(results):
    """The groups in which there is something to hold urbd against: {group: (reference, peers)}."""
    return {group: (members[0], members[1:]) for group, _, members in groups(results)
            if len(members) > 1 and members[0] == targets.reference(group)}


def picture(results, figures, group, title, directory):
    reference, peers = compared(results)[group]
    name = f"{results['place']}-{group}.svg"
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(plot.draw(figures, reference, peers, figures.workloads([reference, *peers]), title))
    yield f"![{title}]({name})"
    yield ""


def matrix(results, figures, directory):
    for group, title, members in groups(results):
        yield f"### {title}"
        yield ""
        if group in compared(results):
            yield from picture(results, figures, group, title, directory)
            yield from ratios(results, figures, group)
        yield from figure_table(figures, members, figures.workloads(members))


def ratios(results, figures, group):
    reference, peers = compared(results)[group]
    yield from ratio_table(figures, reference, peers, figures.workloads([reference, *peers]))


def held(results):
    if not results["held"]:
        return
    yield "### Memory, threads, and the time to open an image"
    yield ""
    yield from table(["target", "images", "first open, ms", "processes", "private MiB", "PSS MiB", "threads",
                      "sockets", "urbd: private", "urbd: threads"],
                     [[name, *held_cells(one), *held_ratios(results, name, one)]
                      for name, one in results["held"].items() if not targets.ALL[name].client_serves])


def held_cells(one):
    opened = one["open_seconds"]
    yield str(one["images"])
    yield number(opened[0] * 1000, 0) if opened else "–"
    yield str(one["processes"])
    for key in ("private", "pss"):
        yield number(one[key] / 1024, 1) if key in one else "–"
    for key in ("threads", "sockets"):
        yield str(one.get(key, "–"))


def held_ratios(results, name, one):
    """urbd's to a peer of its group."""
    reference = targets.reference(targets.ALL[name].group)
    ours = results["held"].get(reference, {})
    for key in ("private", "threads"):
        if name == reference:
            yield ""
        else:
            yield ratio_text(ours[key] / one[key] if one.get(key) and key in ours else None)


def footprint_text(found):
    return f"{found['private'] / 1024:.1f} MiB private, {found['threads']} threads, {found['sockets']} sockets"


def idle_lines(idle):
    yield (f"- {idle['images']} idle images: {footprint_text(idle['all'])} in all; {idle['each_mib']:.2f} MiB private "
           f"each over the first; {idle['burst_each_mib']:.2f} MiB each {idle.get('settle_seconds', 30)} s after a "
           "burst of 1 MiB writes to all of them")
    if "peer" in idle:
        peer = idle["peer"]
        each = {what: f"{peer[what] / peer['images'] / 1024:.1f} MiB" for what in ("rss", "private")}
        yield (f"- {peer['images']} idle images of {peer['target']} beside them: {each['rss']} resident and "
               f"{each['private']} private each, {peer['threads']} threads and {peer['sockets']} sockets in all; for "
               f"each image urbd has ×{aims.to_peers(idle, 'rss'):.2f} of the resident memory, "
               f"×{aims.to_peers(idle, 'private'):.2f} of the private")


def many_lines(many):
    yield (f"- {many['images']} images: {footprint_text(many['now'])}; with {many['before']} images "
           f"{footprint_text(many['then'])}")


def open_lines(opened):
    yield (f"- {opened['images']} images one after the other {opened['row_seconds']:.2f} s "
           f"({opened['single_seconds'] * 1000:.0f} ms each), all at once {opened['parallel_seconds']:.2f} s: "
           f"×{opened['gain']:.1f}")


def far_lines(opened):
    for line in open_lines(opened):
        yield f"{line}, the cluster {opened['ms']} ms away, each way"


def first_lines(first):
    for name, seconds in first["seconds"].items():
        each = ", ".join(f"{what} {milliseconds([one[index] for one in seconds])}"
                         for index, what in enumerate(("first image", "one more")))
        yield f"- {len(seconds)} fresh servers, {name}: {each}"
    if "ratio" in first:
        yield (f"- {first['target']} to {first['peer']}: first image ×{first['ratio']['first']:.2f}, one more "
               f"×{first['ratio']['one_more']:.2f}")


def milliseconds(seconds):
    """The median, and the least and the most."""
    middle, least, most = (number(of(seconds) * 1000, 0) for of in (statistics.median, min, max))
    return f"{middle} ms ({least} … {most})"


def flat_lines(flat):
    def one_of(found, policy):
        return (f"- 4 KiB reads, depth 32, on one of {flat['images']} images{policy}: {found['all_us']:.1f} µs CPU "
                f"each; where there is one image {found['one_us']:.1f} µs: ×{found['ratio']:.2f}")
    yield one_of(flat, "")
    if "shared" in flat:
        yield one_of(flat["shared"], " that share a client")
    for policy, found in spread_cases(flat):
        yield (f"- 4 KiB reads, one in flight on each of {flat['spread']['images']} of {flat['images']} images"
               f"{policy}: {found['all_us']:.1f} µs CPU each; as many clients on one image {found['one_us']:.1f} µs: "
               f"×{found['ratio']:.2f}")


def spread_cases(flat):
    if "spread" in flat:
        yield "", flat["spread"]["pool"]
        yield " that share a client", flat["spread"]["shared"]


def fairness_lines(fairness):
    p99 = {name: rounds_text(value, fairness.get("rounds", {}).get(name)) for name, value in fairness["p99_us"].items()}
    yield (f"- p99 of 4 KiB reads, depth 1: alone {p99['alone']}; beside 1 MiB writes, depth 128, to another image of "
           f"the same daemon {p99['same']}, of another daemon {p99['other']}: ×{fairness['ratio']:.2f}")


def rounds_text(median, rounds):
    """With the least and the most of them where they were kept."""
    return f"{number(median, 0)} µs" + (f" ({spread_text((min(rounds), max(rounds)), 0)})" if rounds else "")


def figures_lines(figures):
    for name, found in figures.items():
        cpu, iops = found["cpu"], found["iops"]
        yield (f"- {name}, 4 KiB reads, depth 32, with the figures read ten times a second: {cpu['read']:.2f} µs CPU "
               f"each, without {cpu['unread']:.2f} µs: ×{cpu['ratio']:.2f}; IOPS ×{iops['ratio']:.2f}")


SCALE_LINES = {"idle": idle_lines, "many": many_lines, "open": open_lines, "far": far_lines, "first": first_lines,
               "flat": flat_lines, "fairness": fairness_lines, "figures": figures_lines}


def scale(results):
    if results["scale"]:
        yield f"### Beside the matrix ({results['scale_target']})"
        yield ""
        for part, lines in SCALE_LINES.items():
            if part in results["scale"]:
                yield from lines(results["scale"][part])
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


def summary(all_results):
    """What a run comes to: the ratios, and the aims."""
    for results in all_results:
        figures = Figures(results["samples"])
        for group, title, _ in groups(results):
            if group in compared(results):
                yield f"### {title}"
                yield ""
                yield from ratios(results, figures, group)
        yield from held(results)
    yield from aim_table(all_results)


def write(all_results, directory):
    lines = list(aim_table(all_results))
    for results in all_results:
        lines += markdown(results, directory)
    path = os.path.join(directory, "report.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path
