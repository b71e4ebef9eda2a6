# SPDX-License-Identifier: MIT
"""Panels for plot.py of what link.py wrote: how a run went over time, of each rival's first, and the medians."""

import statistics

from plot_curves import Curves

OVER_TIME = {
    "out_mbit": "rate out of the link, Mbit/s",
    "queue_kib": "queue, KiB",
    "lost": "packets lost by chance, so far",
    "queue_dropped": "packets that the full queue dropped, so far",
}
FIGURES = {
    "mbit": "Mbit/s delivered (higher is better)",
    "cost": "IP bytes into the link per byte (lower is better)",
    "p99_ms": "requests: p99, ms (lower is better)",
}


def panels(report):
    for scene in report["link_scenes"]:
        first = {name: rival["runs"][0]["curve"] for name, rival in scene["rivals"].items() if rival["runs"]}
        # What takes far longer than others is cut: it would leave them no room.
        shown = 2 * statistics.median(curve["seconds"][-1] for curve in first.values()) if first else 0
        for key, title in OVER_TIME.items():
            lines = tuple(
                (name, [(x, y, ()) for x, y in zip(curve["seconds"], curve[key]) if x <= shown])
                for name, curve in first.items()
            )
            yield Curves(f"{scene['name']}: {title}", "seconds", False, False, lines, ())
        for key, title in FIGURES.items():
            bars = [
                (name, rival["figures"][key], [run["figures"][key] for run in rival["runs"]])
                for name, rival in scene["rivals"].items()
                if key in rival["figures"]
            ]
            if bars:
                must = scene["must"].get(key, 0)
                yield f"{scene['name']}: {title}", bars, [must if name == "kcpsock" else 0 for name, _, _ in bars]
