# SPDX-License-Identifier: MIT
"""What link.py prints."""

from peers import machine, rivals

FACES = {
    "tun": "a link between two network namespaces",
    "relay": "a relay on loopback: bytes count with IP's and UDP's heads",
}


def heading(report):
    yield machine.sentence(report["machine"])
    yield f"face: {report['face']}, {FACES[report['face']]}"
    if report["quick"]:
        yield "QUICK: shorter runs, for a look, not for a claim"
    yield from (f"left out: {name}: {why}" for name, why in report["left_out"].items())


def table(report):
    names = [name for name in report["link_scenes"][0]["rivals"]]
    rows = [["scene", *names, "must"]]
    for scene in report["link_scenes"]:
        cells = [cell_of(scene["rivals"][name]) for name in names]
        rows.append([scene["name"], *cells, f"{cell(scene['must'], bounds=True)}  {verdict(scene['missed'])}".rstrip()])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    yield f"medians of {report['rounds']} rounds: Mbit/s (IP bytes into the link per byte); requests' p50 / p99, ms"
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
    for scene in report["link_scenes"]:
        yield f"  {scene['name']}: {scene['about']}"
    yield from (f"left out: {name}: {why}" for name, why in report["left_out"].items())
    yield from instrument(report)


def instrument(report):
    """Where the instrument itself was in the way."""
    runs = [run for scene in report["link_scenes"] for rival in scene["rivals"].values() for run in rival["runs"]]
    ways = [run["link"][way] for run in runs for way in ("up", "down")]
    if ways:
        late = sum(way["late_packets"] for way in ways) / max(1, sum(way["sent"] for way in ways))
        worst, dropped = max(way["late_max_us"] for way in ways), sum(way["kernel_dropped"] for way in ways)
        yield f"the link sent {late:.2%} of all packets more than 1 ms late, by {worst / 1000:.0f} ms at worst"
        yield f"lost before the link saw them: {dropped} packets"


def cell_of(rival):
    failed = f" {len(rival['failures'])} failed" if rival["failures"] else ""
    return (cell(rival["figures"]) + failed).strip() or "-"


def cell(figures, bounds=False):
    """A run's figures, or bounds of them."""
    words = []
    if "mbit" in figures:
        words.append(f"{figures['mbit']:.{0 if bounds and figures['mbit'] >= 10 else 1}f}")
    if "cost" in figures:
        words.append(f"({figures['cost']:.2f})")
    if "p99_ms" in figures:
        words.append(f"{figures['p50_ms']:.0f} / {figures['p99_ms']:.0f}")
    return " ".join(words)


def verdict(missed):
    if missed is None:
        return f"no {rivals.OURS}"
    return f"MISSED: {', '.join(key.partition('_')[0] for key in missed)}" if missed else "met"
