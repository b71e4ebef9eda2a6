# SPDX-License-Identifier: MIT
"""What compare.py prints: each scenario with all rivals, and then the whole table, one line per figure."""

from peers import machine, rivals


def print_report(report):
    print("\n" + machine.sentence(report["machine"]))
    if report["quick"]:
        print("QUICK: shorter runs, for a look, not for a claim")
    print("settings: " + " ".join(f"{k}={v}" for k, v in report["settings"].items()))
    print(f"medians of {report['rounds']} alternating rounds (min - max)")
    for scenario in report["scenarios"]:
        print_scenario(scenario, report["null"].get(scenario["name"], {}))
    print()
    for line in table(report):
        print(line)


def print_scenario(scenario, null):
    print(f"\n{scenario['name']}: {scenario['about']}")
    keys = [m["name"] for m in scenario["metrics"]]
    heads = [f"{m['name']} {m['unit']}".rstrip() for m in scenario["metrics"]]
    if scenario["is_transfer"]:
        keys, heads = [*keys, "cpu"], [*heads, "CPU s per GB, both ends"]
    print("  " + f"{'':20}" + "".join(f"{head:>26}" for head in heads))
    for name, rival in scenario["rivals"].items():
        cells = [format_figure(rival["figures"].get(key)) for key in keys]
        failed = f"   {len(rival['failures'])} failed" if rival["failures"] else ""
        print("  " + f"{name:20}" + "".join(f"{cell:>26}" for cell in cells) + failed)
    if null:
        said = ", ".join(f"{k} {v['value']:,.1f} {v['unit']}" for k, v in null.items())
        print(f"  null (harness alone, {scenario['metrics'][0]['name']}): {said}")


def table(report):
    """-> the lines of the whole table."""
    yield "ratio: kcpsock / the better kcp-go of this run, and / kernel TCP. Rates: more is better; all else: less is."
    yield (
        f"{'work':14}{'figure':24}{'kcpsock':>11}{'kcp-go':>11}{'ratio':>9}{'floor':>8}{'aim':>7}{'/ TCP':>8}  verdict"
    )
    for scenario in report["scenarios"]:
        for metric in scenario["metrics"]:
            found = scenario["verdicts"][metric["name"]]
            yield (
                f"{scenario['name']:14}{(metric['name'] + ' ' + metric['unit']).rstrip():24}"
                f"{number(found['ours']):>11}{number(found['theirs']):>11}{ratio(found['ratio']):>9}"
                f"{metric['floor'] or '':>8}{metric['aim'] or '':>7}{ratio(found['others'].get('TCP')):>8}  "
                + said_of(metric, found)
            ).rstrip()
            for guest in (rival.name for rival in rivals.GUESTS if rival.name in found["others"]):
                theirs = scenario["rivals"][guest]["figures"][metric["name"]]["median"]
                yield (
                    f"{scenario['name']:14}{'  the package ' + guest:24}{number(found['ours']):>11}"
                    f"{number(theirs):>11}{ratio(found['others'][guest]):>9}"
                )
        yield from shortage(scenario)
    for name in report["absent"]:
        yield f"{name}: not installed, not measured"


def shortage(scenario):
    """Where the machine did not allow as many connections as were wanted."""
    for name, rival in scenario["rivals"].items():
        for run in rival["runs"][:1]:
            wanted, got = run["server"].get("wanted", 0), run["server"].get("connections", 0)
            if got < wanted and name == rivals.OURS:
                limit = run["server"]["descriptor_limit"]
                yield (
                    f"{scenario['name']:14}  {wanted:,} were wanted: `ulimit -Hn` of {limit:,} allows {got:,} on one "
                    "server process, of two descriptors each"
                )


def said_of(metric, found):
    words = [found["verdict"]] if found["verdict"] else []
    if found["limit_verdict"]:
        bound = "at least" if metric["higher_is_better"] else "at most"
        words.append(f"{bound} {metric['limit']:,}: {found['limit_verdict']}")
    return "; ".join(words)


def number(value):
    return "-" if value is None else f"{value:,.{digits(value)}f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}"


def digits(value):
    return 0 if value >= 100 or value == int(value) else 2


def format_figure(figure):
    if figure is None:
        return "-"
    d = digits(figure["median"])
    return "{median:,.{d}f} ({min:,.{d}f} - {max:,.{d}f})".format(d=d, **figure)
