# SPDX-License-Identifier: MIT
"""Panels of lines over one quantity, for plot.py: what grow.py wrote. A dot is a sample, a dashed line a bound."""

import dataclasses

COLOURS = {
    "kcpsock": "#2a6fbb",
    "kcp-go": "#c0504d",
    "TCP bbr": "#555555",
    "TCP cubic": "#b0b0b0",
    "hysteria bbr": "#4f9a4f",
    "hysteria brutal": "#8a5bb0",
}
BOUND_COLOUR = "#555555"


@dataclasses.dataclass(frozen=True)
class Curves:
    title: str
    x: str
    log_x: bool
    log_y: bool
    lines: tuple  # (name, [(x, median, samples), ...])
    bounds: tuple  # (name, [(x, y), ...])


def panels(report):
    for sweep in report["sweeps"]:
        for name, figure in sweep["figures"].items():
            lines = tuple((line["name"], list(_points(line, name))) for line in sweep["lines"])
            medians = [median for _, points in lines for _, median, _ in points]
            unit = f", {figure['unit']}" if figure["unit"] else ""
            yield Curves(
                f"{sweep['name']}: {figure['title']}{unit}",
                sweep["x"],
                sweep["log_x"],
                bool(medians) and min(medians) > 0 and max(medians) > 20 * min(medians),
                lines,
                tuple((bound["name"], bound["points"]) for bound in figure["bounds"]),
            )


def _points(line, name):
    for point in line["points"]:
        if name in point["figures"]:
            figure = point["figures"][name]
            yield point["x"], figure["median"], figure["samples"]


def draw(axis, curves):
    for name, points in curves.bounds:
        axis.plot([x for x, _ in points], [y for _, y in points], "--", color=BOUND_COLOUR, linewidth=0.9, label=name)
    for name, points in curves.lines:
        family = next(known for known in sorted(COLOURS, key=len, reverse=True) if name.startswith(known))
        style = ":" if "FEC" in name else "-"
        axis.plot([x for x, _, _ in points], [y for _, y, _ in points], style, color=COLOURS[family], label=name)
        for x, _, samples in points:
            axis.plot([x] * len(samples), samples, ".", color=COLOURS[family], markersize=4)
    if curves.log_x:
        axis.set_xscale("log", base=2 if curves.x.startswith("window") else 10)
    if curves.log_y:
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=min([0, *(y for _, points in curves.lines for _, y, _ in points)]))
    axis.set_xlabel(curves.x, fontsize=8)
    axis.set_title(curves.title, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=6)
