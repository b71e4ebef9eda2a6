# SPDX-License-Identifier: MIT
"""CPython's own tests, as they came with the running Python, with kcpsock in the place of the module `socket`.

Rule: a test that passes on TCP passes here. What fails here is run again, alone (the machine may have been busy), then
on TCP; it is a failure of ours unless TCP fails too, or suites.EXCEPTIONS says why it has to. What is skipped here must
be skipped on TCP. The numbers are in the captured output: pytest -rA shows them.

Debian splits the tests off: apt-get install libpython3-testsuite.
"""

import collections
import concurrent.futures
import fnmatch
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from .suites import EXCEPTIONS, LEFT_OUT, STREAM_CLASSES, SUITES

ROOT = pathlib.Path(__file__).parents[2]
AT_ONCE = 3  # they wait more than they compute
LONG_S = 170


def _is_here(suite):
    try:
        return importlib.util.find_spec(f"test.{suite}") is not None
    except ImportError:
        return False


HERE = [suite for suite in SUITES if _is_here(suite)]


class Runner:
    """Runs suites in processes of their own, a few at a time, from the first request on."""

    def __init__(self, directory):
        self._directory = directory
        self._pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        self._started = {}

    def start(self, suites):
        for suite in suites:
            self._started[suite] = self._pool.submit(self.run, "kcp", suite)

    def outcomes(self, suite):
        if suite not in self._started:
            self.start([suite])
        return self._started[suite].result()

    def run(self, kind, suite, tests=()):
        """{id: [outcome, detail]} of a suite, or of some of its tests, over kcp or tcp."""
        directory = self._directory.mktemp(f"{kind}-{suite}")
        results = directory / "results.json"
        process = subprocess.run(
            [sys.executable, "-m", "tests.conformance.run", kind, results, f"test.{suite}", *tests],
            input=json.dumps(list(LEFT_OUT)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LONG_S,
        )
        assert results.exists(), f"{suite} over {kind} ended with {process.returncode}:\n{process.stdout[-5000:]}"
        return json.loads(results.read_text(encoding="utf-8"))

    def close(self):
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def runner(tmp_path_factory, request):
    made = Runner(tmp_path_factory)
    selected = {item.callspec.params.get("suite") for item in request.session.items if hasattr(item, "callspec")}
    made.start([suite for suite in HERE if suite in selected])
    yield made
    made.close()


def reason_of(test):
    return next((reason for pattern, reason in EXCEPTIONS.items() if fnmatch.fnmatchcase(test, pattern)), None)


@pytest.mark.skipif(_is_here("test_socket"), reason="it is here")
def test_cpythons_tests_are_here(require_peer):
    require_peer("CPython's own test suite", False, "apt-get install libpython3-testsuite, or a Python that has it")


@pytest.mark.timeout(2 * LONG_S)
@pytest.mark.parametrize("suite", HERE)
def test_suite(runner, suite):
    outcomes = runner.outcomes(suite)
    counts = collections.Counter(outcome for outcome, _ in outcomes.values())
    print(f"{suite}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")

    failed = [test for test, (outcome, _) in outcomes.items() if outcome == "failed"]
    skipped = [test for test, (outcome, _) in outcomes.items() if outcome == "skipped"]
    for test, (outcome, _) in outcomes.items():
        if outcome == "passed" and reason_of(test):
            print(f"  passed, though it is an exception: {test}")
    again = runner.run("kcp", suite, failed) if failed else {}
    whole = any(
        test.startswith("setUp") for test in skipped
    )  # a module or class that skips itself has no id to ask for
    on_tcp = runner.run("tcp", suite, () if whole else failed + skipped) if failed or skipped else {}

    ours = []
    for test in failed:
        detail = again.get(test, outcomes[test])[1]
        if again.get(test, ("failed",))[0] == "passed":
            print(f"  passed when run again, alone: {test}: {outcomes[test][1].strip().splitlines()[-1]}")
        elif reason_of(test):
            print(f"  exception: {test}: {reason_of(test)}")
        elif on_tcp.get(test, ("",))[0] == "failed":
            print(f"  fails on TCP too: {test}")
        else:
            ours.append(f"{test}\n{detail}")
    assert not ours, f"{len(ours)} of {len(outcomes)} pass on TCP and not here:\n" + "\n".join(ours)

    only_here = [test for test in skipped if on_tcp.get(test, ("",))[0] != "skipped" and not reason_of(test)]
    assert not only_here, f"skipped here, and not on TCP: {only_here}"
    for reason, number in collections.Counter(outcomes[test][1] for test in skipped).most_common():
        print(f"  skipped, as on TCP: {number}: {reason}")


@pytest.mark.skipif("test_socket" not in HERE, reason="CPython's tests are not here")
def test_the_stream_classes_have_run(runner):
    # Passed or not is test_suite's to judge, which runs again what failed on a busy machine.
    ran = {test.split(".")[2] for test, (outcome, _) in runner.outcomes("test_socket").items() if outcome != "skipped"}
    assert set(STREAM_CLASSES) <= ran
