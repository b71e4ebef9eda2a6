#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Packet crypt and FEC alone, against kcp-go in the same run: ``python bench/micro.py [--json] [--quick] [--out DIR]``.

Each sample is a process of its own, in one thread, without sockets; the two rivals take turns within a round, and the
other one begins in the next. Medians are compared; every sample goes into micro.json, from which plot.py draws. What is
measured stands in scenarios/micro.py; how, in README.md.
"""

import argparse
import functools
import json
import pathlib
import statistics
import sys

import plot
from peers import machine, process, rivals
from scenarios.micro import MEASURES

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
OURS, THEIRS = (rival.name for rival in rivals.MICRO)


def main():
    options = parse()
    say = functools.partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
    chosen = rivals.chosen(options.rivals, rivals.MICRO)
    if any(rival.is_go for rival in chosen):
        rivals.build_go(without=f"--rivals {OURS}")
    measures = pick_measures(options.measures)
    try:
        report = {
            "machine": machine.describe(),
            "data_plane": ask(rivals.MICRO[0], "about", [], options),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "quick": options.quick,
            "null_ns": measure_null(chosen, options),
        }
    except process.PeerFailed as failure:
        raise SystemExit(f"bench: {failure}") from None
    samples = run_rounds(chosen, measures, options, say)
    report["micro"] = [summarize(measure, samples[measure.name]) for measure in measures]
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "micro.json"
    text = json.dumps(report, indent=1)
    target.write_text(text + "\n", encoding="utf-8")
    print_report(report, say)
    if options.json:
        print(text)
    say(f"\nwrote {target}")
    plot.draw_if_possible(target, say)
    return 1 if any(rival["failures"] for row in report["micro"] for rival in row["rivals"].values()) else 0


def ask(rival, command, arguments, options):
    with process.Peer(rival, command, arguments, options.timeout) as peer:
        return peer.result()


def measure_null(chosen, options):
    """{rival: ns} of the loop around nothing, for kcpsock a call into C for no packet: part of each call's time."""
    flags = [f"--seconds={options.seconds}"]
    return {rival.name: statistics.median(ask(rival, "null", flags, options)["slices"]) for rival in chosen}


def run_rounds(chosen, measures, options, say):
    # -> {measure: {rival: {"samples": [MB/s], "best": MB/s, "failures": [...]}}}. A sample is the median of a run's
    # slices; the best slice of all is what the rival does while nothing else runs, which tells how noisy the run was.
    found = {m.name: {r.name: {"samples": [], "best": 0.0, "failures": []} for r in chosen} for m in measures}
    for number in range(options.rounds):
        turn = number % len(chosen)
        for measure in measures:
            for rival in chosen[turn:] + chosen[:turn]:
                mine = found[measure.name][rival.name]
                if mine["failures"]:
                    continue
                try:
                    result = ask(rival, measure.command, measure.arguments(options.seconds), options)
                except process.PeerFailed as failure:
                    mine["failures"].append(str(failure))
                    print(f"round {number + 1}: {measure.name}: {failure}", file=sys.stderr)
                    continue
                mine["samples"].append(statistics.median(result["slices"]))
                mine["best"] = max(mine["best"], *result["slices"])
        say(f"round {number + 1}/{options.rounds} done")
    return found


def summarize(measure, found):
    medians = {name: statistics.median(rival["samples"]) for name, rival in found.items() if rival["samples"]}
    ratio = medians[OURS] / medians[THEIRS] if OURS in medians and THEIRS in medians else None
    pairs = zip(found[OURS]["samples"], found[THEIRS]["samples"]) if ratio is not None else ()
    per_round = [ours / theirs for ours, theirs in pairs]
    return {
        "name": measure.name,
        "panel": measure.panel,
        "arguments": [measure.command, *(f"--{name}={value}" for name, value in measure.flags.items())],
        "rivals": {name: {"median": medians.get(name), **rival} for name, rival in found.items()},
        "ratio": ratio,
        "ratios": per_round,
        "ratio_of_best": found[OURS]["best"] / found[THEIRS]["best"] if ratio is not None else None,
        "floor": measure.floor,
        "aim": measure.aim,
        "met": ratio >= measure.floor if ratio is not None and measure.floor else None,
    }


def print_report(report, say):
    plane = report["data_plane"]
    say("\n" + machine.sentence(report["machine"]))
    say(f"kcpsock uses here: crypt {plane['crypt']}, FEC {plane['fec']}")
    if report["quick"]:
        say("QUICK: shorter runs, for a look, not for a claim")
    say(f"medians of {report['rounds']} alternating rounds; MB/s of payload, one thread; x: kcpsock / kcp-go")
    say("null, ns a call: " + ", ".join(f"{name} {ns:,.0f}" for name, ns in report["null_ns"].items()))
    say(f"\n{'':24}{OURS:>10}{THEIRS:>10}{'x':>8}  {'goal':14}met")
    for row in report["micro"]:
        rates = "".join(f"{format_rate(row['rivals'].get(name)):>10}" for name in (OURS, THEIRS))
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        failed = "   FAILED" if any(rival["failures"] for rival in row["rivals"].values()) else ""
        say(f"{row['name']:24}{rates}{ratio:>8}  {format_goal(row):14}{verdict(row)}{failed}")


def format_rate(rival):
    if rival is None or rival["median"] is None:
        return "-"
    return f"{rival['median']:,.{0 if rival['median'] >= 100 else 1}f}"


def format_goal(row):
    if not row["floor"]:
        return "-"
    return f"{row['floor']}, aim {row['aim']}" if row["aim"] else f"{row['floor']}"


def verdict(row):
    if row["met"] is None:
        return "-"
    if not row["met"]:
        return "MISSED"
    return "yes" if row["ratio"] >= row["aim"] else "floor"


def pick_measures(names):
    if names is None:
        return MEASURES
    wanted = names.split(",")
    unknown = [name for name in wanted if all(measure.name != name for measure in MEASURES)]
    if unknown:
        allowed = ", ".join(measure.name for measure in MEASURES)
        raise SystemExit(f"--measures: {', '.join(unknown)}: allowed are {allowed}, separated by commas")
    return [measure for measure in MEASURES if measure.name in wanted]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the report on stdout, the table on stderr")
    parser.add_argument("--rounds", type=int, help="how often each rival runs each measure (5; 2 with --quick)")
    parser.add_argument("--seconds", type=float, help="measured time of a run (0.2; 0.03 with --quick)")
    parser.add_argument("--quick", action="store_true", help="shorter runs: for a look, not for a claim")
    parser.add_argument("--rivals", help=f"comma-separated, of: {OURS}, {THEIRS}")
    parser.add_argument("--measures", help="comma-separated names, as in the table (default: all)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a run is given up")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for micro.json and the plot")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 2 if options.quick else 5
    if options.seconds is None:
        options.seconds = 0.03 if options.quick else 0.2
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
