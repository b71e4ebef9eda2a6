# SPDX-License-Identifier: MIT
"""How kcpsock grows: ``python bench/grow.py [--quick] [--only NAME,...] [--rounds N] [--out DIR]``.

Rate against window and loss, bytes on the wire per byte delivered, CPU per byte of a large window against a small one:
transfers through the project's lossy link, kcp-go beside kcpsock. CPU and memory against the number of connections: one
message a second on each, echoed. Each sweep is written to its grow-NAME.json, with every sample, and drawn as
grow-NAME.png beside it.

No term may grow faster than linearly: what is judged is the slope of log(cost) against log(n) (growth.py). A verdict is
printed, MISSED or met; the exit status is 1 only when something failed to run.
"""

import argparse
import json
import math
import pathlib
import resource
import statistics
import sys

import crowds
import growth
import idle
import plot
from link_figures import FIGURES
from peers import machine, process, rivals, through
from scenarios import SETTINGS, grow

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
CROWD = "connections"
TRANSFER_TIMEOUT = 60.0  # seconds
SEED = 1  # of the link; a round adds its number


def main():
    options = parse()
    rivals.build_go()
    report = {
        "machine": machine.describe(),
        "link": f"{through.LINK}; {grow.RTT_MS} ms round trip; loss is drawn each way by itself",
        "settings": SETTINGS,
        "rounds": options.rounds,
        "quick": options.quick,
        "sweeps": [],
        "verdicts": [],
    }
    print(machine.sentence(report["machine"]))
    print(f"link: {report['link']}")
    if options.quick:
        print("QUICK: shorter runs, for a look, not for a claim")
    sweeps = [sweep for sweep in grow.SWEEPS if sweep.name in options.only]
    runs = run_transfers(sweeps, options)
    for sweep in sweeps:
        report["sweeps"].append(summarize(sweep, runs, options))
        print_sweep(report["sweeps"][-1])
    if CROWD in options.only:
        report["sweeps"].append(measure_crowds(options))
        print_sweep(report["sweeps"][-1])
    report["verdicts"] = list(verdicts(report["sweeps"]))
    print_verdicts(report["verdicts"])
    print()
    for target in write(report, options.out):
        print(f"wrote {target}")
        plot.draw_if_possible(target)
    return 1 if any(point["failures"] for point in points_of(report["sweeps"])) else 0


def write(report, directory):
    """-> the paths; one file a sweep, each a report of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    for sweep in report["sweeps"]:
        of_this = [verdict for verdict in report["verdicts"] if verdict["sweep"] == sweep["name"]]
        target = directory / f"grow-{sweep['name']}.json"
        whole = {**report, "sweeps": [sweep], "verdicts": of_this}
        target.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        yield target


def run_transfers(sweeps, options):
    """-> {transfer: {"runs": [...], "failures": [...]}}; every transfer once a round, whoever asks for it."""
    wanted = list(
        dict.fromkeys(
            sweep.transfer(line, x, options.quick, options.max_bytes)
            for sweep in sweeps
            for x in sweep.values(options.quick)
            for line in sweep.lines
        )
    )
    found = {transfer: {"runs": [], "failures": []} for transfer in wanted}
    by_name = {rival.name: rival for rival in rivals.ALL}
    for number in range(options.rounds):
        for transfer in wanted if number % 2 == 0 else wanted[::-1]:  # rivals alternate, and who is first
            try:
                run = through.transfer(
                    by_name[transfer.rival],
                    transfer.arguments(),
                    rtt_ms=grow.RTT_MS,
                    loss=transfer.loss,
                    seed=SEED + number,
                    timeout=TRANSFER_TIMEOUT,
                )
            except process.PeerFailed as failure:
                found[transfer]["failures"].append(str(failure))
                print(f"round {number + 1}: {title(transfer)}: {failure}", file=sys.stderr)
                continue
            found[transfer]["runs"].append(run)
            print(
                f"round {number + 1}/{options.rounds}  {title(transfer):48}"
                f" {FIGURES['rate'].of(transfer, run):8.2f} MB/s  ({run['server']['seconds']:.1f} s)",
                flush=True,
            )
    return found


def title(transfer):
    fec = f", FEC {transfer.fec}" if transfer.fec else ""
    return f"{transfer.rival}, window {transfer.window}, loss {transfer.loss:.0%}{fec}"


def summarize(sweep, runs, options):
    lines = []
    for line in sweep.lines:
        points = []
        for x in sweep.values(options.quick):
            transfer = sweep.transfer(line, x, options.quick, options.max_bytes)
            point = {
                "x": x if sweep.by_window else 100 * x,
                "bytes": transfer.bytes,
                "bound_mb_s": transfer.bound_mb_s,
                "least_wire": transfer.least_wire,
            }
            points.append({**point, **taken(transfer, runs[transfer], {name: FIGURES[name] for name in sweep.figures})})
        lines.append({"name": line.name, "points": points})
    return {
        "name": sweep.name,
        "about": sweep.about,
        "x": sweep.x,
        "log_x": sweep.log_x,
        "figures": {name: described(FIGURES[name], bounds(name, lines)) for name in sweep.figures},
        "lines": lines,
    }


def measure_crowds(options):
    """-> what summarize() makes of a sweep; one run for each number: memory and CPU hardly vary."""
    counts = grow.QUICK_CONNECTIONS if options.quick else grow.CONNECTIONS
    settle = grow.QUICK_CROWD_SETTLE if options.quick else grow.CROWD_SETTLE
    seconds = grow.QUICK_CROWD_SECONDS if options.quick else grow.CROWD_SECONDS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the peers inherit it
    prices = idle.calibrate(most)
    lines = {rival.name: [] for rival in (rivals.KCPSOCK, rivals.KCP_GO)}
    for count in counts:
        for rival in (rivals.KCPSOCK, rivals.KCP_GO):
            crowd = crowds.Crowd(rival.name, count, grow.MESSAGE_BYTES, settle, seconds)
            sample = {"runs": [], "failures": []}
            try:
                sample["runs"].append(crowds.run(rival, crowd, prices))
            except process.PeerFailed as failure:
                sample["failures"].append(str(failure))
                print(f"{rival.name}, {count} connections: {failure}", file=sys.stderr)
            point = {"x": count, **taken(crowd, sample, crowds.FIGURES)}
            lines[rival.name].append(point)
            said = "   ".join(
                f"{f.title} {point['figures'][name]['median']:,.{f.digits}f} {f.unit}"
                for name, f in crowds.FIGURES.items()
                if name in point["figures"]
            )
            print(f"{rival.name}, {count} connections: {said}", flush=True)
    return {
        "name": CROWD,
        "about": grow.CROWD_ABOUT + f"; in {crowds.PAIRS} pairs of processes, figures are their sums",
        "x": "connections",
        "log_x": True,
        "kib_per_descriptor": prices,
        "figures": {name: described(figure, []) for name, figure in crowds.FIGURES.items()},
        "lines": [{"name": name, "points": points} for name, points in lines.items()],
    }


def taken(measured, sample, known):
    """-> the sample itself and, under "figures", those of `known` that can be said of it."""
    figures = {name: spread([figure.of(measured, run) for run in sample["runs"]]) for name, figure in known.items()}
    return {"figures": {name: figure for name, figure in figures.items() if figure}, **sample}


def described(figure, held_against):
    return {"title": figure.title, "unit": figure.unit, "digits": figure.digits, "bounds": held_against}


def bounds(figure, lines):
    """What a figure is to be held against, once for all rivals, since it depends on the settings alone."""
    key, label = {"rate": ("bound_mb_s", "bound"), "wire": ("least_wire", "least")}.get(figure, (None, None))
    return [
        {
            "name": label + line["name"].removeprefix(rivals.OURS),
            "points": [(point["x"], point[key]) for point in line["points"]],
        }
        for line in lines
        if key and line["name"].startswith(rivals.OURS)
    ]


def spread(values):
    """None where there is nothing to say: no run, or nothing was lost of which a figure could be taken."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": values}


def points_of(sweeps):
    for sweep in sweeps:
        for line in sweep["lines"]:
            yield from line["points"]


# ---- verdicts


def verdicts(sweeps):
    for sweep in sweeps:
        for verdict in verdicts_of(sweep):
            yield {"sweep": sweep["name"], **verdict}


def verdicts_of(sweep):
    ours = {point["x"]: point["figures"] for point in sweep["lines"][0]["points"]}
    if sweep["name"] == "cost" and all("cpu" in ours[window] for window in grow.COST_WINDOWS):
        small, large = (ours[window]["cpu"]["median"] for window in grow.COST_WINDOWS)
        yield {
            "what": "CPU per byte, window {1:,} / window {0:,}".format(*grow.COST_WINDOWS)
            + f" at {grow.COST_LOSS:.0%} loss",
            "value": large / small,
            "ceiling": grow.COST_CEILING,
            "met": large / small <= grow.COST_CEILING,
        }
    if sweep["name"] == "window":
        # Per byte it must not grow at all; a window's worth of bytes is linear in the window.
        costs = [(x, figures["cpu"]["median"] * x) for x, figures in ours.items() if "cpu" in figures]
        yield from slope_verdict("CPU of one window's worth of data, against the window", costs)
    if sweep["name"] == CROWD:
        for name, what in (("cpu", "CPU of both ends"), ("memory", "server's memory")):
            costs = [(x, figures[name]["median"]) for x, figures in ours.items() if name in figures]
            yield from slope_verdict(f"{what}, against connections", costs)


def slope_verdict(what, points):
    if len({n for n, _ in points}) > 1:
        found = growth.judge(points, grow.SLOPE_CEILING)
        yield {"what": f"slope: {what}", "value": max(found["slope"], found["slope_of_largest"]), **found}


# ---- words


def print_sweep(sweep):
    print(f"\n{sweep['name']}: {sweep['about']}")
    for name, figure in sweep["figures"].items():
        digits = figure["digits"]
        print(f"  {figure['title']}{', ' + figure['unit'] if figure['unit'] else ''}")
        xs = [point["x"] for point in sweep["lines"][0]["points"]]
        print(f"    {sweep['x']:24}" + "".join(f"{x:>10,g}" for x in xs))
        for line in sweep["lines"]:
            cells = [point["figures"].get(name) for point in line["points"]]
            print(f"    {line['name']:24}" + "".join(cell_text(cell, digits) for cell in cells))
        for bound in figure["bounds"]:
            print(f"    {bound['name']:24}" + "".join(f"{y:>10,.{digits}f}" for _, y in bound["points"]))
    failed = sum(len(point["failures"]) for point in points_of([sweep]))
    if failed:
        print(f"  {failed} runs failed")


def cell_text(figure, digits):
    return f"{'-':>10}" if figure is None else f"{figure['median']:>10,.{digits}f}"


def print_verdicts(found):
    for verdict in found:
        said = "met" if verdict["met"] else "MISSED"
        detail = ""
        if "slope" in verdict:
            detail = f" (all {verdict['slope']:.2f}, largest {verdict['slope_of_largest']:.2f})"
        print(f"\n{verdict['what']}: {verdict['value']:.2f}{detail}, ceiling {verdict['ceiling']:g}: {said}")


def parse():
    names = [*(sweep.name for sweep in grow.SWEEPS), CROWD]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer points, shorter runs: for a look, not for a claim")
    parser.add_argument("--only", help=f"comma-separated, of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="how often each transfer is run (2; 1 with --quick)")
    parser.add_argument("--max-mb", type=float, default=grow.MAX_BYTES / 1e6, help="bytes of one transfer, at most")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for the JSON and the plots")
    options = parser.parse_args()
    options.only = names if options.only is None else options.only.split(",")
    unknown = [name for name in options.only if name not in names]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: allowed are {', '.join(names)}, separated by commas")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 2
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    options.max_bytes = int(options.max_mb * 1e6)
    if options.max_bytes < 1:
        parser.error(f"--max-mb {options.max_mb:g}: at least one byte")
    return options


if __name__ == "__main__":
    sys.exit(main())
