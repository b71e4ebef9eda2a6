# SPDX-License-Identifier: MIT
"""kcpsock beside kcp-go, kernel TCP and others: ``python bench/compare.py [--quick] [--rounds N] [--out DIR]``.

Client and server are two processes on this machine. The rivals take turns within each round, and a different one begins
each time, so that what else the machine does hits all of them alike. Medians are compared; every sample goes into
compare.json, from which plot.py draws. The yardstick is the better of kcp-go with Go's defaults and with GOMAXPROCS=1.
Ratios are ours / theirs: of rates more is better, of latency, CPU and memory less. The whole table stands at the end.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import time

import compare_table
import many
import plot
import scenarios
from peers import machine, process, rivals

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
NULL_SECONDS = 60
GUEST_BYTES = 4 << 20  # of a sink, for the packages that are far slower; kcp's often fails on more
GUEST_SECONDS = 20.0
MAX_FAILURES = 2  # of a rival in a scenario: then its further rounds are left out


def main():
    options = parse()
    chosen = rivals.chosen(options.rivals, known=rivals.COMPARED)
    absent = [rival for rival in chosen if not rivals.is_there(rival)]
    chosen = [rival for rival in chosen if rival not in absent]
    for rival in absent:
        print(f"{rival.name} is not installed and left out: pip install {rival.name}", file=sys.stderr)
    if any(rival.is_go for rival in chosen):
        rivals.build_go()
    picked = pick_scenarios(options.scenarios)
    report = {
        "machine": machine.describe(),
        "settings": scenarios.SETTINGS,
        "rounds": options.rounds,
        "quick": options.quick,
        "null": measure_null(chosen, picked, options.quick),
        "absent": [rival.name for rival in absent],
        "scenarios": [],
    }
    samples = run_rounds(chosen, picked, options)
    for scenario in picked:
        report["scenarios"].append(summarize(scenario, samples[scenario.name], options.quick))
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "compare.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    compare_table.print_report(report)
    print(f"\nwrote {target}")
    plot.draw_if_possible(target)
    own = {rival.name for rival in chosen if not rival.is_guest}
    failed = (sample["failures"] for s in report["scenarios"] for name, sample in s["rivals"].items() if name in own)
    return 1 if any(failed) else 0


def run_rounds(chosen, picked, options):
    """-> {scenario: {rival: {"runs": [...], "failures": [...]}}}"""
    samples = {s.name: {r.name: {"runs": [], "failures": []} for r in taking_part(chosen, s)} for s in picked}
    for number in range(options.rounds):
        for scenario in picked:
            if scenario.rounds and number >= scenario.rounds:
                continue
            rivals_here = taking_part(chosen, scenario)
            turn = number % max(1, len(rivals_here))
            for rival in rivals_here[turn:] + rivals_here[:turn]:
                sample = samples[scenario.name][rival.name]
                if len(sample["failures"]) >= MAX_FAILURES:
                    continue
                began = time.monotonic()
                try:
                    run = RUNNERS[scenario.kind](rival, scenario, options.quick)
                except process.PeerFailed as failure:
                    sample["failures"].append(str(failure))
                    print(f"round {number + 1}: {scenario.name}: {failure}", file=sys.stderr)
                    continue
                sample["runs"].append(run)
                shown = ", ".join(f"{m.name} {m.of(run):,.4g} {m.unit}".rstrip() for m in scenario.metrics)
                print(
                    f"round {number + 1}/{options.rounds}  {scenario.name:13}  {rival.name:19}  {shown}"
                    f"  ({time.monotonic() - began:.1f} s)",
                    flush=True,
                )
    return samples


def taking_part(chosen, scenario):
    if scenario.rivals:
        return [rival for rival in chosen if rival.name in scenario.rivals]
    return [rival for rival in chosen if scenario.guests or not rival.is_guest]


def run_transfer(rival, scenario, quick):
    ends = scenario.arguments(quick)
    if rival.is_guest:  # the last of two equal flags counts
        ends = [[*flags, f"--bytes={GUEST_BYTES}"] for flags in ends]
        return process.transfer(rival, *ends, GUEST_SECONDS)
    return process.transfer(rival, *ends, scenario.timeout)


RUNNERS = {"transfer": run_transfer, "crowd": many.run, "rest": many.run}


def summarize(scenario, samples, quick):
    found = {}
    for name, sample in samples.items():
        figures = {}
        for metric in scenario.metrics:
            values = [metric.of(run) for run in sample["runs"]]
            figures[metric.name] = spread(values)
        if scenario.is_transfer:
            figures["cpu"] = spread([cpu_seconds_per_gb(run) for run in sample["runs"]])
        found[name] = {**sample, "figures": {key: figure for key, figure in figures.items() if figure}}
    server, client = scenario.arguments(quick)
    return {
        "name": scenario.name,
        "about": scenario.about,
        "server_arguments": server,
        "client_arguments": client,
        "metrics": [dataclasses.asdict(metric) for metric in scenario.metrics],
        "is_transfer": scenario.is_transfer,
        "rivals": found,
        "verdicts": {metric.name: judge(metric, found) for metric in scenario.metrics},
    }


def spread(values):
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": values}


def cpu_seconds_per_gb(run):
    """Of both ends together. The sink's client does not count bytes: it sent what the server got."""
    server, client = run["server"], run["client"]
    return 1e9 * (server["cpu_s"] / server["bytes"] + client["cpu_s"] / client.get("bytes", server["bytes"]))


def judge(metric, found):
    """What is to be said of kcpsock's median: against the better kcp-go, the others, and the metric's limit."""
    medians = {name: r["figures"][metric.name]["median"] for name, r in found.items() if metric.name in r["figures"]}
    ours = medians.get(rivals.OURS)
    theirs = [name for name in rivals.YARDSTICKS if name in medians]
    best = (max if metric.higher_is_better else min)(theirs, key=medians.get) if theirs else None
    ratio = metric.ratio(ours, medians[best]) if ours is not None and best else None
    others = {
        name: metric.ratio(ours, median)
        for name, median in medians.items()
        if ours is not None and name not in (rivals.OURS, *rivals.YARDSTICKS)
    }
    return {
        "ours": ours,
        "of": best,
        "theirs": medians.get(best),
        "ratio": ratio,
        "verdict": metric.verdict(ratio),
        "others": others,
        "limit_verdict": metric.limit_verdict(ours),
    }


def measure_null(chosen, picked, quick):
    """The same loops over a connection that does nothing, once per program: no rival can be faster than its harness."""
    programs = {rival.program: rival for rival in reversed(chosen) if not rival.is_guest}
    found = {}
    for scenario in picked:
        if not scenario.is_transfer:
            continue
        _, client = scenario.arguments(quick)
        metric = scenario.metrics[0]
        for rival in programs.values():
            command = [*rival.program, "null", *client]
            language = "Go" if rival.is_go else "Python"
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=NULL_SECONDS)
            if done.returncode:
                raise SystemExit(f"bench: the null benchmark of {language} failed:\n{done.stderr}")
            result = json.loads(done.stdout)
            value = metric.of({"server": result, "client": result})
            found.setdefault(scenario.name, {})[language] = {"value": value, "unit": metric.unit, "metric": metric.name}
    return found


def pick_scenarios(names):
    known = {scenario.name: scenario for scenario in scenarios.load()}
    if names is None:
        return list(known.values())
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise SystemExit(f"--scenarios: {', '.join(unknown)}: allowed are {', '.join(known)}, separated by commas")
    return [known[name] for name in names.split(",")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="how often each rival runs each scenario (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="shorter runs: for a look, not for a claim")
    parser.add_argument("--rivals", help=f"comma-separated, of: {', '.join(r.name for r in rivals.COMPARED)}")
    parser.add_argument("--scenarios", help="comma-separated names (default: all)")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for compare.json and the plot")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
