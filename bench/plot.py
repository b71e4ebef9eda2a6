# SPDX-License-Identifier: MIT
"""Draws what the benchmarks beside it wrote: ``python bench/plot.py [JSON ...] [--format svg]``.

One panel per figure: a bar is the median, a dot one sample, an upright line what it is to reach; what grows is drawn as
lines (plot_curves.py), as is what went over a link (plot_link.py). Needs matplotlib
(pip install matplotlib, the bench extra).
"""

import argparse
import json
import pathlib
import sys

import plot_curves
import plot_link

DEFAULT = pathlib.Path(__file__).resolve().parent.parent / "build" / "bench-results"
COLOURS = {**plot_curves.COLOURS, "TCP": "#8a8a8a"}
COLUMNS = 3


class NoMatplotlib(Exception):
    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=pathlib.Path, nargs="*", help=f"default: what there is in {DEFAULT}")
    parser.add_argument("--format", default="png", choices=["png", "svg"])
    options = parser.parse_args()
    sources = options.json or sorted(DEFAULT.glob("*.json"))
    if not sources:
        raise SystemExit(f"plot: no *.json in {DEFAULT}: run bench/compare.py or one of its neighbours first")
    try:
        for source in sources:
            print(f"wrote {draw(source, options.format)}")
    except NoMatplotlib as missing:
        raise SystemExit(f"plot: {missing}") from None


def draw_if_possible(source, say=print):
    """For the end of a benchmark, whose figures are safe in `source` already."""
    try:
        say(f"wrote {draw(source)}")
    except NoMatplotlib as missing:
        print(f"no plot: {missing}; then: python bench/plot.py {source}", file=sys.stderr)


def draw(source, suffix="png"):
    """-> the picture's path, beside `source`. Raises NoMatplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise NoMatplotlib("matplotlib is missing: pip install matplotlib, or kcpsock[bench]") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    report = json.loads(source.read_text(encoding="utf-8"))
    panels_of = next(PANELS[key] for key in PANELS if key in report)
    panels = list(panels_of(report))
    rows = -(-len(panels) // COLUMNS)
    height = max([3.2, *(0.28 * len(panel[1]) for panel in panels if isinstance(panel, tuple))])
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(4.2 * COLUMNS, height * rows), squeeze=False)
    for axis, panel in zip(axes.flat, panels):
        if isinstance(panel, plot_curves.Curves):
            plot_curves.draw(axis, panel)
        else:
            draw_panel(axis, *panel)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    machine = report["machine"]
    figure.suptitle(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, kcp-go {machine['kcp-go']}, "
        f"kcpsock {machine['kcpsock']}, {machine['date'][:10]}",
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / (height * rows)))  # 0.3 inches for the line above
    target = source.with_suffix("." + suffix)
    figure.savefig(target, dpi=120)
    pyplot.close(figure)
    return target


def draw_panel(axis, title, bars, goals=()):
    """bars: (name, median, samples); goals: one per bar, 0 for none"""
    for place, goal in enumerate(goals):
        if goal:
            axis.plot([goal, goal], [place - 0.45, place + 0.45], color="black", linewidth=1.5)
    for place, (name, median, samples) in enumerate(bars):
        family = next((known for known in sorted(COLOURS, key=len, reverse=True) if name.startswith(known)), "kcpsock")
        axis.barh(place, median, color=COLOURS[family], alpha=0.75)
        axis.plot(samples, [place] * len(samples), "k.", markersize=4)
        axis.annotate(f" {median:,.4g}", (max([median, *samples]), place), va="center", fontsize=8)
    axis.set_yticks(range(len(bars)))
    axis.set_yticklabels([name for name, _, _ in bars], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set_xlim(left=0)
    axis.set_title(title, fontsize=8)


def compare_panels(report):
    for scenario in report["scenarios"]:
        for metric in scenario["metrics"]:
            better = "higher" if metric["higher_is_better"] else "lower"
            title = f"{scenario['name']}: {metric['name']}, {metric['unit']} ({better} is better)"
            yield title, list(_bars(scenario, metric["name"]))
        yield f"{scenario['name']}: CPU s per GB (lower is better)", list(_bars(scenario, "cpu"))


def _bars(scenario, key):
    for name, rival in scenario["rivals"].items():
        if key in rival["figures"]:
            figure = rival["figures"][key]
            yield name, figure["median"], figure["samples"]


def idle_panels(report):
    rows = [row for row in report["rows"] if "kib_per_session" in row]
    yield "idle session: KiB, user and kernel (lower is better)", [(r["name"], r["kib_per_session"], []) for r in rows]
    yield "idle server: CPU, % of a core (lower is better)", [(r["name"], r["server_cpu_percent"], []) for r in rows]


def micro_panels(report):
    for panel in dict.fromkeys(row["panel"] for row in report["micro"]):
        rows = [row for row in report["micro"] if row["panel"] == panel and row["ratio"] is not None]
        bars = [(row["name"], row["ratio"], row["ratios"]) for row in rows]
        yield f"{panel}: MB/s, times kcp-go's (higher is better)", bars, [row["floor"] for row in rows]


PANELS = {  # by a report's key
    "scenarios": compare_panels,
    "sweeps": plot_curves.panels,
    "rows": idle_panels,
    "micro": micro_panels,
    "link_scenes": plot_link.panels,
}


if __name__ == "__main__":
    main()
