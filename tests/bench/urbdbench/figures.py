"""Medians of samples, and medians of the ratios within each round."""
import statistics

FEWEST = 500  # requests of a point: what is divided by fewer says nothing


def parts(sample):
    """A sample; and what it says of the flushes, as if they were a workload of their own."""
    yield sample
    if "flush" in sample:
        yield {"target": sample["target"], "workload": f"{sample['workload']}: flush", "round": sample["round"],
               **sample["flush"]}


class Figures:
    def __init__(self, samples):
        self.samples = [part for sample in samples for part in parts(sample)]

    def rounds(self, target, workload, figure):
        """The figure of each round that has one."""
        return {s["round"]: s[figure] for s in self.samples
                if s["target"] == target and s["workload"] == workload and s.get(figure) is not None}

    def has(self, target, workload):
        return bool(self.rounds(target, workload, "p50"))

    def workloads(self, targets):
        seen = dict.fromkeys(s["workload"] for s in self.samples if s["target"] in targets)
        return list(seen)

    def median(self, target, workload, figure):
        values = self.rounds(target, workload, figure)
        return statistics.median(values.values()) if values else None

    def spread(self, target, workload, figure):
        """The least and the most of the rounds."""
        values = self.rounds(target, workload, figure).values()
        return (min(values), max(values)) if values else None

    def ratio(self, target, peer, workload, figure):
        """Target's to the peer's; None where either has none, or hardly did anything."""
        if any((self.median(name, workload, "requests") or 0) < FEWEST for name in (target, peer)):
            return None
        ours, theirs = (self.rounds(name, workload, figure) for name in (target, peer))
        ratios = [ours[turn] / theirs[turn] for turn in ours if theirs.get(turn)]
        return statistics.median(ratios) if ratios else None
