"""One picture of a group: how the peers stand to urbd, workload by workload. SVG, by hand."""
import math
from xml.sax.saxutils import escape

# What is compared, and on which side of 1 a peer is worse than urbd.
PANELS = [("iops", "IOPS", "left"), ("p99", "99th percentile of latency", "right"),
          ("cpu", "server CPU per request", "right")]
COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#8c6d1f", "#555555"]
LEFT, PANEL, GAP, ROW, TOP, BOTTOM = 150, 230, 20, 20, 100, 34
TICKS = [1, 2, 0.5, 5, 0.2, 10, 0.1, 20, 0.05, 50, 0.02, 100, 0.01]  # those before take the place of the others
APART = 26  # pixels, at least


def text(x, y, words, anchor="start", size=12, colour="#222222", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def line(x1, y1, x2, y2, colour, width=1.0):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"/>')


class Scale:
    """Logarithmic, from the smallest ratio to the largest, with 1 always inside."""

    def __init__(self, values, left):
        low, high = min(values + [0.8]) / 1.15, max(values + [1.25]) * 1.15
        self.low, self.high, self.left = math.log(low), math.log(high), left

    def x(self, value):
        return self.left + PANEL * (math.log(value) - self.low) / (self.high - self.low)

    def ticks(self):
        shown = []
        for tick in TICKS:
            if self.low <= math.log(tick) <= self.high and \
                    all(abs(self.x(tick) - self.x(other)) >= APART for other in shown):
                shown.append(tick)
        return shown


def points(figures, reference, peers, workloads, figure):
    for row, workload in enumerate(workloads):
        for number, peer in enumerate(peers):
            ratio = figures.ratio(peer, reference, workload, figure)
            if ratio:
                yield row, number, ratio


def panel(figures, reference, peers, workloads, index):
    figure, title, worse = PANELS[index]
    left = LEFT + index * (PANEL + GAP)
    bottom = TOP + ROW * len(workloads)
    dots = list(points(figures, reference, peers, workloads, figure))
    scale = Scale([ratio for _, _, ratio in dots], left)
    yield text(left + PANEL / 2, TOP - 24, title, "middle", weight="bold")
    yield text(left + (6 if worse == "left" else PANEL - 6), TOP - 7, "◂ peer worse" if worse == "left" else
               "peer worse ▸", "start" if worse == "left" else "end", 11, "#666666")
    yield (f'<rect x="{left}" y="{TOP}" width="{PANEL}" height="{ROW * len(workloads)}" fill="none" '
           'stroke="#999999"/>')
    for tick in scale.ticks():
        yield line(scale.x(tick), TOP, scale.x(tick), bottom, "#222222" if tick == 1 else "#dddddd",
                   1.4 if tick == 1 else 1)
        yield text(scale.x(tick), bottom + 16, f"{tick:g}", "middle", 11)
    for row, number, ratio in dots:
        yield (f'<circle cx="{scale.x(ratio):.1f}" cy="{TOP + ROW * (row + 0.5):.1f}" r="4.5" '
               f'fill="{COLOURS[number % len(COLOURS)]}" fill-opacity="0.85"/>')


def legend(peers):
    x = LEFT
    for number, peer in enumerate(peers):
        yield f'<circle cx="{x + 5}" cy="44" r="4.5" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield text(x + 15, 48, peer)
        x += 35 + 7.2 * len(peer)


def rows(workloads):
    width = LEFT + len(PANELS) * (PANEL + GAP)
    for row, workload in enumerate(workloads):
        y = TOP + ROW * row
        if row % 2 == 0:
            yield f'<rect x="0" y="{y}" width="{width}" height="{ROW}" fill="#f5f5f5"/>'
        yield text(LEFT - 10, y + ROW - 6, workload, "end")


def draw(figures, reference, peers, workloads, title):
    width = LEFT + len(PANELS) * (PANEL + GAP)
    height = TOP + ROW * len(workloads) + BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             text(10, 22, f"{title}: each peer's figure divided by that of {reference} (the line at 1)", size=14)]
    parts += rows(workloads)
    parts += legend(peers)
    for index in range(len(PANELS)):
        parts += panel(figures, reference, peers, workloads, index)
    return "\n".join(parts + ["</svg>\n"])
