# SPDX-License-Identifier: MIT
"""kcpsock beside kcp-go, kernel TCP and QUIC on links as users have them: ``python bench/link.py [--quick]``.

A link has a rate, a queue, a delay and loss, and is the project's own (tests/support/lossylink*.c). As root, where TUN
devices may be made, it lies between two network namespaces; elsewhere it is a relay on loopback, and kernel TCP is left
out. Rivals take turns within each round, and a different one begins each time; a round is a seed of the link. Each
scene is written to its link-NAME.json, with every sample, and drawn as link-NAME.png beside it. The whole table stands
at the end.

kcpsock has its default profile. A figure that misses what is asked of it is printed as MISSED; the exit status is 1
only when something failed to run.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import link_run
import link_table
import plot
from peers import link_rivals, machine, process, rivals
from scenarios import link as scenes

from tests.support import tunlink

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
SEED = 1  # of the link; a round adds its number
MAX_FAILURES = 2  # of a rival in a scene: then its further rounds are left out
FACES = {"tun": link_run.TunFace, "relay": link_run.RelayFace}


def main():
    options = parse()
    if options.face == "tun" and not tunlink.is_possible():
        raise SystemExit(f"--face tun: {tunlink.HOW_TO_GET}")
    face = options.face or ("tun" if tunlink.is_possible() else "relay")
    chosen, left_out = link_rivals.sort_out(rivals.chosen(options.rivals, link_rivals.ALL), face == "tun")
    picked = pick(options.scenes)
    report = {
        "machine": machine.describe(),
        "face": face,
        "rounds": options.rounds,
        "quick": options.quick,
        "left_out": left_out,
        "link_scenes": [],
    }
    for line in link_table.heading(report):
        print(line)
    samples = run_rounds(chosen, picked, FACES[face], options)
    report["link_scenes"] = [summarize(scene, samples[scene.name], options.quick) for scene in picked]
    print()
    for line in link_table.table(report):
        print(line)
    print()
    for target in write(report, options.out):
        print(f"wrote {target}")
        plot.draw_if_possible(target)
    return 1 if any(r["failures"] for scene in report["link_scenes"] for r in scene["rivals"].values()) else 0


def run_rounds(chosen, picked, face_class, options):
    """-> {scene: {rival: {"runs": [...], "failures": [...]}}}"""
    samples = {scene.name: {rival.name: {"runs": [], "failures": []} for rival in chosen} for scene in picked}
    for number in range(options.rounds):
        for scene in picked:
            turn = number % max(1, len(chosen))
            for rival in chosen[turn:] + chosen[:turn]:
                sample = samples[scene.name][rival.name]
                if len(sample["failures"]) >= MAX_FAILURES:
                    continue
                began = time.monotonic()
                try:
                    run = link_run.run(rival, scene, face_class, SEED + number, options.quick)
                except process.PeerFailed as failure:
                    sample["failures"].append(str(failure))
                    print(f"round {number + 1}: {scene.name}: {failure}", file=sys.stderr)
                    continue
                sample["runs"].append(run)
                print(
                    f"round {number + 1}/{options.rounds}  {scene.name:13}  {rival.name:16}"
                    f"  {link_table.cell(run['figures']):28}  ({time.monotonic() - began:.1f} s)",
                    flush=True,
                )
    return samples


def summarize(scene, samples, quick):
    found = {}
    for name, sample in samples.items():
        runs = [run["figures"] for run in sample["runs"]]
        figures = {key: statistics.median(run[key] for run in runs) for key in (runs[0] if runs else ())}
        found[name] = {**sample, "figures": figures}
    must = {key: value for key, value in vars(scene.must).items() if value is not None}
    return {
        "name": scene.name,
        "about": scene.about,
        "link": scene.link.settings(),
        "bytes": scene.transfer_bytes(quick),
        "must": must,
        "missed": missed(must, found.get(rivals.OURS, {}).get("figures")),
        "rivals": found,
    }


def missed(must, figures):
    """-> the figures of kcpsock's that are not what is asked for; None: there are none to judge."""
    if not figures:
        return None
    return [
        key for key, bound in must.items() if (figures[key] < bound if key == "mbit" else not figures[key] <= bound)
    ]


def write(report, directory):
    """-> the paths; one file a scene, each a report of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    for scene in report["link_scenes"]:
        target = directory / f"link-{scene['name'].replace(' ', '-').replace('%', '')}.json"
        target.write_text(json.dumps({**report, "link_scenes": [scene]}) + "\n", encoding="utf-8")
        yield target


def pick(names):
    """By name, or by the first word of several names."""
    if names is None:
        return list(scenes.SCENES)
    wanted = names.split(",")
    picked = [scene for scene in scenes.SCENES if {scene.name, scene.name.split()[0]} & set(wanted)]
    known = {scene.name for scene in scenes.SCENES} | {scene.name.split()[0] for scene in scenes.SCENES}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        allowed = ", ".join(scene.name for scene in scenes.SCENES)
        raise SystemExit(f"--scenes: {', '.join(unknown)}: allowed are {allowed}, separated by commas")
    return picked


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, help="how often each rival runs each scene, by other seeds (3; 1 with --quick)"
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs: for a look, not for a claim")
    parser.add_argument("--rivals", help=f"comma-separated, of: {', '.join(r.name for r in link_rivals.ALL)}")
    parser.add_argument(
        "--scenes", help='comma-separated names, or first words of names ("base" is all four; default: all)'
    )
    parser.add_argument("--face", choices=sorted(FACES), help="of the link (default: tun where it may be had)")
    parser.add_argument(
        "--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for the JSON files and the plots"
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
