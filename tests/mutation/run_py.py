# SPDX-License-Identifier: MIT
"""Plants small wrong changes in kcpsock/*.py, one at a time, and lists those that no test notices.

`make mutate ARGS="_options _life"`. cosmic-ray finds the places and makes the changes, operators.py a few more kinds of
them; modules.py says which tests concern which module. All of it happens in copies of the tree below build/mutate/,
whose extension is the one that is built here: C is not changed. What was noticed is kept in build/mutate/*.jsonl, so
that a second run only tries what survived, or was not tried, while the module stays as it is.
"""

import argparse
import ast
import concurrent.futures
import difflib
import hashlib
import itertools
import json
import os
import queue
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

import cosmic_ray.plugins

sys.path.insert(0, str(Path(__file__).parent))
import operators  # noqa: E402
from modules import TESTS  # noqa: E402

cosmic_ray.plugins.OPERATOR_PROVIDERS["kcpsock"] = operators.PROVIDED

from cosmic_ray.commands.init import _all_work_items  # noqa: E402
from cosmic_ray.mutating import mutate_code, use_mutation  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutate"
PAGE = ROOT / "docs" / "mutation.md"
TEST_TIMEOUT_S = 15  # no test of these takes so long, unless it hangs

# "is" and "==" say the same of None, an enum's member and a small int.
SAME = {f"core/ReplaceComparisonOperator_{pair}" for pair in ("Is_Eq", "Eq_Is", "IsNot_NotEq", "NotEq_IsNot")}


def copy_of_tree(number):
    """A copy of this tree, its extension included."""
    tree = BUILD / f"tree-{number}"
    subprocess.run(["rm", "-rf", tree], check=True)
    tree.mkdir(parents=True)
    left_out = ["--exclude=__pycache__", "--exclude=./build", "--exclude=./.venv*", "--exclude=./.git"]
    subprocess.run(
        f"tar -c {' '.join(left_out)} . | tar -x -C {shlex.quote(str(tree))}", shell=True, cwd=ROOT, check=True
    )
    return tree


class Worker:
    """A copy of the tree, and the process (warm.py) that runs tests in it."""

    def __init__(self, number):
        self.tree = copy_of_tree(number)
        environment = {**os.environ, "PYTHONPATH": str(self.tree)}
        code = "import kcpsock; print(kcpsock.__file__)"
        found = subprocess.check_output([sys.executable, "-c", code], cwd=self.tree, env=environment, text=True).strip()
        assert found == str(self.tree / "kcpsock" / "__init__.py"), found
        self._warm = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def passes(self, module, timeout_s):
        """-> (whether the module's tests pass, what the last one's pytest said)"""
        task = {
            "tree": str(self.tree),
            "files": TESTS[module],
            "timeout_s": timeout_s,
            "test_timeout_s": TEST_TIMEOUT_S,
        }
        print(json.dumps(task), file=self._warm.stdin, flush=True)
        answer = json.loads(self._warm.stdout.readline())
        return answer["passed"], answer["said"]

    def close(self):
        self._warm.stdin.close()
        self._warm.wait()


def cannot_be_judged(source):
    """-> spans ((line, column), (line, column)) of the code whose changes mean nothing when the program runs here."""
    spans = []

    def span(node):
        spans.append(((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)))

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg) and node.annotation:
            span(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns:
            span(node.returns)
        elif isinstance(node, ast.AnnAssign):
            span(node.annotation)
        elif isinstance(node, ast.If):
            test = ast.unparse(node.test)
            # For type checkers; another Python's half; the module run as a program.
            if test == "TYPE_CHECKING" or "sys.version_info" in test or "__name__" in test:
                span(node)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            if ast.unparse(node.value.value) in ("Union", "Optional"):
                span(node)
    return spans


def changes(module, every):
    """All changes to a module, as (place, [change, ...]): without `every` one of each kind at each place."""
    path = ROOT / "kcpsock" / f"{module}.py"
    left_out = cannot_be_judged(path.read_text(encoding="utf-8"))
    places = {}
    for item in _all_work_items([path], {}):
        (change,) = item.mutations
        if change.operator_name in SAME or any(a <= change.start_pos < b for a, b in left_out):
            continue
        kind = change.operator_name.split("_")[0]
        place = f"{kind} {change.start_pos[0]}:{change.start_pos[1]}"
        if every:
            place += f" {change.operator_name} {change.occurrence}"
        places.setdefault(place, []).append(change)
    return sorted(places.items())


def is_python(module, change):
    """Whether what the change makes can be compiled: cosmic-ray takes the `*` of a signature for a multiplication."""
    source = (ROOT / "kcpsock" / f"{module}.py").read_text(encoding="utf-8")
    operator = cosmic_ray.plugins.get_operator(change.operator_name)()
    try:
        compile(mutate_code(source, operator, change.occurrence), module, "exec")
    except SyntaxError:
        return False
    return True


def chosen(module, options):
    """The changes to try: one a place, at most `--most` places, the same for the same seed."""
    picked = []
    for place, candidates in changes(module, options.every):
        change = random.Random(f"{options.seed} {module} {place}").choice(candidates)
        picked.append((place, change))
    random.Random(f"{options.seed} {module}").shuffle(picked)
    good = (one for one in picked if is_python(module, one[1]))
    return list(itertools.islice(good, options.most or None)), len(picked)


def try_one(worker, module, change, timeout_s):
    """Makes one change, runs the tests; what came of it, as a dict."""
    before = time.monotonic()
    operator = cosmic_ray.plugins.get_operator(change.operator_name)()
    with use_mutation(worker.tree / "kcpsock" / f"{module}.py", operator, change.occurrence) as (old_code, new_code):
        assert new_code is not None, change
        passed, said = worker.passes(module, timeout_s)
    lines = list(difflib.unified_diff(old_code.splitlines(), new_code.splitlines(), n=0, lineterm=""))[2:]
    failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {
        "kind": change.operator_name.split("/")[1],
        "line": change.start_pos[0],
        "where": change.definition_name or "",
        "old": " ".join(line[1:].strip() for line in lines if line[0] == "-"),
        "new": " ".join(line[1:].strip() for line in lines if line[0] == "+"),
        "noticed": not passed,
        "by": "" if passed else failed[0] if failed else said[-300:],
        "seconds": round(time.monotonic() - before, 1),
    }


def as_line(module, found):
    """A survivor as docs/mutation.md names it, without line numbers, which change."""
    return f"`{module}.py`, {found['where'] or 'module'}: `{found['old']}` -> `{found['new']}`"


def try_module(module, workers, options):
    """-> (places, tried, noticed, survivors that the page does not name, those that it does)"""
    source = (ROOT / "kcpsock" / f"{module}.py").read_bytes()
    log = BUILD / f"{module}-{hashlib.sha256(source).hexdigest()[:12]}.jsonl"
    known = {}
    if log.exists() and not options.afresh:
        for line in log.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            known[found["key"]] = found
    elif log.exists():
        log.unlink()
    picked, places = chosen(module, options)
    todo = [(place, change) for place, change in picked if not known.get(key_of(place, change), {}).get("noticed")]
    results = [known[key_of(place, change)] for place, change in picked if (place, change) not in todo]
    if todo:
        worker = workers.get()
        before = time.monotonic()
        passed, said = worker.passes(module, 600)
        took_s = time.monotonic() - before
        workers.put(worker)
        if not passed:
            raise SystemExit(f"{module}: its tests fail without any change:\n{said[-3000:]}")
        print(f"{module}: {len(todo)} changes to try, of {places} places; its tests take {took_s:.1f} s", flush=True)

        def work(place, change):
            worker = workers.get()
            try:
                return {"key": key_of(place, change), **try_one(worker, module, change, 3 * took_s + 30)}
            finally:
                workers.put(worker)

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool, open(log, "a", encoding="utf-8") as out:
            running = [pool.submit(work, place, change) for place, change in todo]
            for future in concurrent.futures.as_completed(running):
                found = future.result()
                print(json.dumps(found), file=out, flush=True)
                results.append(found)
                if not found["noticed"]:
                    print(f"  {as_line(module, found)}  ({found['line']}, {found['kind']})", flush=True)
    survivors = [found for found in results if not found["noticed"]]
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    named = [found for found in survivors if as_line(module, found) in page]
    return places, len(results), len(results) - len(survivors), [f for f in survivors if f not in named], named


def key_of(place, change):
    return f"{place} {change.operator_name} {change.occurrence}"


def main():
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {' '.join(TESTS)}; all without")
    parser.add_argument("--most", type=int, default=40, help="changes to try of a module, at most (40); 0: no limit")
    parser.add_argument("--every", action="store_true", help="every change at a place, not one of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the choice (1)")
    parser.add_argument("--jobs", type=int, default=1, help="changes to try at the same time (1)")
    parser.add_argument("--afresh", action="store_true", help="forget what an earlier run noticed")
    parser.add_argument("--list", action="store_true", help="count the places, and try nothing")
    options = parser.parse_args()
    unknown = set(options.modules) - set(TESTS)
    missing = {path.stem for path in (ROOT / "kcpsock").glob("*.py")} - set(TESTS)
    if unknown or missing:
        parser.error(f"no module: {sorted(unknown)}" if unknown else f"modules.py names no tests of {sorted(missing)}")
    names = [name for name in TESTS if not options.modules or name in options.modules]
    if options.list:
        for name in names:
            print(f"{name}: {len(changes(name, False))} places, {len(changes(name, True))} changes")
        return 0
    workers = queue.Queue()
    for number in range(options.jobs):
        workers.put(Worker(number))
    print(f"seed {options.seed}, one a place" if not options.every else "every change", flush=True)
    rows, left = [], []
    for name in names:
        places, tried, noticed, unnamed, named = try_module(name, workers, options)
        share = f"{100 * noticed / max(tried, 1):.0f} %"
        rows.append(f"| {name}.py | {places} | {tried} | {noticed} | {len(named)} | {share} |")
        left += [as_line(name, found) for found in unnamed]
        print(rows[-1], flush=True)
    while not workers.empty():
        workers.get().close()
    print("\n| module | places | tried | noticed | justified | |\n|---|---|---|---|---|---|", *rows, sep="\n")
    print(f"\n{len(left)} changes that no test noticed, and {PAGE.relative_to(ROOT)} does not name:", *left, sep="\n- ")
    return bool(left)


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main())
