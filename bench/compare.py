# SPDX-License-Identifier: MIT
"""kcpsock, kcp-go and kernel TCP side by side: ``python bench/compare.py [--quick] [--rounds N] [--out DIR]``.

Client and server are two processes on this machine. The rivals take turns within each round, and a different one begins
each time, so that what else the machine does hits all of them alike. Medians are compared; every sample goes into
compare.json, from which plot.py draws. The yardstick is the better of kcp-go with Go's defaults and with GOMAXPROCS=1.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import plot
import scenarios
from peers import machine, process, rivals

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
NULL_SECONDS = 60
MAX_FAILURES = 2  # of a rival in a scenario: then its further rounds are left out


def main():
    options = parse()
    chosen = rivals.chosen(options.rivals)
    if any(rival.is_go for rival in chosen):
        rivals.build_go()
    picked = pick_scenarios(options.scenarios)
    report = {
        "machine": machine.describe(),
        "settings": scenarios.SETTINGS,
        "rounds": options.rounds,
        "quick": options.quick,
        "null": measure_null(chosen, picked, options.quick),
        "scenarios": [],
    }
    samples = run_rounds(chosen, picked, options)
    for scenario in picked:
        report["scenarios"].append(summarize(scenario, samples[scenario.name], options.quick))
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "compare.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report)
    print(f"\nwrote {target}")
    plot.draw_if_possible(target)
    return 1 if any(sample["failures"] for s in report["scenarios"] for sample in s["rivals"].values()) else 0


def run_rounds(chosen, picked, options):
    """-> {scenario: {rival: {"runs": [...], "failures": [...]}}}"""
    samples = {s.name: {r.name: {"runs": [], "failures": []} for r in chosen} for s in picked}
    for number in range(options.rounds):
        turn = number % len(chosen)
        for scenario in picked:
            server, client = scenario.arguments(options.quick)
            for rival in chosen[turn:] + chosen[:turn]:
                if len(samples[scenario.name][rival.name]["failures"]) >= MAX_FAILURES:
                    continue
                began = time.monotonic()
                try:
                    run = process.transfer(rival, server, client, scenario.timeout)
                except process.PeerFailed as failure:
                    samples[scenario.name][rival.name]["failures"].append(str(failure))
                    print(f"round {number + 1}: {scenario.name}: {failure}", file=sys.stderr)
                    continue
                samples[scenario.name][rival.name]["runs"].append(run)
                first = scenario.metrics[0]
                shown = f"{first.of(run):,.0f} {first.unit}"
                print(
                    f"round {number + 1}/{options.rounds}  {scenario.name:12}  {rival.name:20}  {shown:>12}"
                    f"  ({time.monotonic() - began:.1f} s)",
                    flush=True,
                )
    return samples


def summarize(scenario, samples, quick):
    found = {}
    for name, sample in samples.items():
        figures = {}
        for metric in scenario.metrics:
            values = [metric.of(run) for run in sample["runs"]]
            figures[metric.name] = spread(values)
        figures["cpu"] = spread([cpu_seconds_per_gb(run) for run in sample["runs"]])
        found[name] = {**sample, "figures": {key: figure for key, figure in figures.items() if figure}}
    server, client = scenario.arguments(quick)
    return {
        "name": scenario.name,
        "about": scenario.about,
        "server_arguments": server,
        "client_arguments": client,
        "metrics": [
            {"name": m.name, "unit": m.unit, "higher_is_better": m.higher_is_better, "floor": m.floor}
            for m in scenario.metrics
        ],
        "rivals": found,
        "ratios": {m.name: compare_with_best(m, found) for m in scenario.metrics},
    }


def spread(values):
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": values}


def cpu_seconds_per_gb(run):
    """Of both ends together. The sink's client does not count bytes: it sent what the server got."""
    server, client = run["server"], run["client"]
    return 1e9 * (server["cpu_s"] / server["bytes"] + client["cpu_s"] / client.get("bytes", server["bytes"]))


def compare_with_best(metric, found):
    """{"of": the better kcp-go, "ratio": how many times better kcpsock's median is}; None where one is missing."""
    medians = {name: r["figures"][metric.name]["median"] for name, r in found.items() if metric.name in r["figures"]}
    theirs = [name for name in rivals.YARDSTICKS if name in medians]
    if rivals.OURS not in medians or not theirs:
        return None
    best = (max if metric.higher_is_better else min)(theirs, key=medians.get)
    return {"of": best, "ratio": metric.advantage(medians[rivals.OURS], medians[best])}


def measure_null(chosen, picked, quick):
    """The same loops over a connection that does nothing, once per program: no rival can be faster than its harness."""
    programs = {rival.program: rival for rival in reversed(chosen)}
    found = {}
    for scenario in picked:
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


def print_report(report):
    print("\n" + machine.sentence(report["machine"]))
    if report["quick"]:
        print("QUICK: shorter runs, for a look, not for a claim")
    print("settings: " + " ".join(f"{k}={v}" for k, v in report["settings"].items()))
    print(f"medians of {report['rounds']} alternating rounds (min - max)")
    print("x: kcpsock against the better kcp-go of this run, above 1 is better")
    for scenario in report["scenarios"]:
        print(f"\n{scenario['name']}: {scenario['about']}")
        heads = [f"{m['name']} {m['unit']}" for m in scenario["metrics"]] + ["CPU s per GB, both ends"]
        print("  " + f"{'':22}" + "".join(f"{head:>28}" for head in heads))
        for name, rival in scenario["rivals"].items():
            keys = [m["name"] for m in scenario["metrics"]] + ["cpu"]
            cells = [format_figure(rival["figures"].get(key)) for key in keys]
            failed = f"   {len(rival['failures'])} failed" if rival["failures"] else ""
            print("  " + f"{name:22}" + "".join(f"{cell:>28}" for cell in cells) + failed)
        print("  " + f"{'x':22}" + "".join(f"{cell:>28}" for cell in format_ratios(scenario)))
        nulls = ", ".join(f"{k} {v['value']:,.1f} {v['unit']}" for k, v in report["null"][scenario["name"]].items())
        print(f"  null (harness alone, {scenario['metrics'][0]['name']}): {nulls}")


def format_figure(figure):
    if figure is None:
        return "-"
    digits = 0 if figure["median"] >= 100 else 2
    return "{median:,.{d}f} ({min:,.{d}f} - {max:,.{d}f})".format(d=digits, **figure)


def format_ratios(scenario):
    for metric in scenario["metrics"]:
        found = scenario["ratios"][metric["name"]]
        if found is None:
            yield "-"
            continue
        verdict = ""
        if metric["floor"]:
            verdict = f" (floor {metric['floor']}: {'met' if found['ratio'] >= metric['floor'] else 'MISSED'})"
        yield f"{found['ratio']:.2f}{verdict}"


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
    parser.add_argument("--rounds", type=int, help="how often each rival runs each scenario (5; 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="shorter runs: for a look, not for a claim")
    parser.add_argument("--rivals", help=f"comma-separated, of: {', '.join(r.name for r in rivals.ALL)}")
    parser.add_argument("--scenarios", help="comma-separated names (default: all)")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for compare.json and the plot")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 2 if options.quick else 5
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
