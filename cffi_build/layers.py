# SPDX-License-Identifier: MIT
"""Checks the layers of the data plane: python cffi_build/layers.py [DIRECTORY OF OBJECT FILES]

A folder is a layer. A file includes only what is in its own folder and in those further down LAYERS, and names it with
the folder ("base/mem.h"). With object files, made from the same sources, it also follows the calls: no file calls one
that, over others or at once, calls it back. Callbacks, which go up by design, are pointers and no calls.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
LAYERS = ("bare", "api", "engine", "session", "arq", "path", "smux", "wire", "fec", "crypt", "os", "base")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def upward_includes() -> list[str]:
    """A line for each include that goes up, names no layer, or leads nowhere."""
    faults = []
    for path in sorted(HERE.glob("*/*.[ch]")):
        layer = path.parent.name
        if layer not in LAYERS:
            faults.append(f"{path}: the folder {layer} is no layer")
            continue
        for target in INCLUDE.findall(path.read_text(encoding="utf-8")):
            folder = target.partition("/")[0]
            if folder not in LAYERS or not (HERE / target).exists():
                faults.append(f'{path}: "{target}" is no file of a layer')
            elif LAYERS.index(folder) < LAYERS.index(layer):
                faults.append(f"{path}: {target} is above it")
    return faults


def calls(objects: Path) -> dict[str, set[str]]:
    """Which file uses functions or data of which others, by the object files' symbols."""
    files = [p for p in sorted(objects.rglob("*.o")) if (HERE / p.parent.name / f"{p.stem}.c").exists()]
    wanted, owner = defaultdict(set), {}
    for path in files:
        name = f"{path.parent.name}/{path.stem}.c"
        symbols = subprocess.run(["nm", "-g", "-P", path], check=True, capture_output=True, text=True).stdout
        for symbol, kind in (line.split()[:2] for line in symbols.splitlines()):
            if kind == "U":
                wanted[name].add(symbol)
            else:
                owner[symbol] = name
    seen = {f"{path.parent.name}/{path.stem}.c" for path in files}  # also those that have nothing but checks (checks.h)
    missing = {str(p.relative_to(HERE)) for p in HERE.glob("*/*.c")} - seen
    if missing:
        sys.exit(f"{objects}: no object files of {', '.join(sorted(missing))}")
    return {name: {owner[s] for s in symbols if s in owner} - {name} for name, symbols in wanted.items()}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The groups of files that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append("these call each other: " + ", ".join(sorted(group)))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def main() -> None:
    faults = upward_includes()
    if len(sys.argv) > 1:
        faults += circles(calls(Path(sys.argv[1])))
    if faults:
        sys.exit("\n".join(faults))
    print("layers: no include goes up" + (", no circle" if len(sys.argv) > 1 else ""))


if __name__ == "__main__":
    main()
