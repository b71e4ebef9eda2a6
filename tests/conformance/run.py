# SPDX-License-Identifier: MIT
"""Runs one of CPython's own test modules, with kcpsock in the place of the module `socket` or without it.

    python -m tests.conformance.run kcp|tcp RESULTS.json test.test_socket [TEST ...]

RESULTS.json gets {test id: [outcome, detail]}; an outcome is passed, failed or skipped. With TEST arguments (ids) only
those are run. Standard input holds a JSON list of patterns (fnmatch) of ids that are not run at all.

It is a program of its own because a test module binds `socket` when it is imported: all that comes after the line in
_put_in_place() sees kcpsock, as in a user's program.
"""

import faulthandler
import fnmatch
import json
import sys
import unittest

# Not: network and urlfetch (the internet), walltime (half a minute of waiting each), largefile, gui, audio.
RESOURCES = ["cpu", "decimal", "subprocess", "tzdata"]
LOCAL_NETWORK = ["test.test_socketserver", "test.test_timeout"]  # what asks for "network" and means this machine


class Result(unittest.TextTestResult):
    """Notes every test's outcome; the first failure of a test counts."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}

    def _note(self, test, outcome, detail=""):
        if self.outcomes.get(test.id(), ("",))[0] != "failed":
            self.outcomes[test.id()] = (outcome, detail)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._note(test, "passed")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._note(test, "passed", "expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note(test, "failed", "unexpected success")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", self._exc_info_to_string(err, test))


def _put_in_place():
    import kcpsock

    # The engine's thread stays. threading._count() has it, so for the test that starts it it would be one too many.
    kcpsock.create_server(("127.0.0.1", 0)).close()
    sys.modules["socket"] = kcpsock


def _flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _flat(test)
        else:
            yield test


def main():
    kind, results, module, *wanted = sys.argv[1:]
    left_out = json.load(sys.stdin)
    faulthandler.enable()
    if kind == "kcp":
        _put_in_place()
    import test.support

    test.support.use_resources = RESOURCES + (["network"] if module in LOCAL_NETWORK else [])
    loaded = unittest.defaultTestLoader.loadTestsFromName(module)
    tests = [
        test
        for test in _flat(loaded)
        if (not wanted or test.id() in wanted)
        and not any(fnmatch.fnmatchcase(test.id(), pattern) for pattern in left_out)
    ]
    runner = unittest.TextTestRunner(resultclass=Result, verbosity=2)
    # As one suite: setUpClass and setUpModule go by the neighbours.
    outcomes = runner.run(unittest.TestSuite(tests)).outcomes
    with open(results, "w", encoding="utf-8") as file:
        json.dump(outcomes, file)
    import os

    sys.stderr.flush()
    os._exit(0)  # threads that a failed test left are none of the next test's


if __name__ == "__main__":
    main()
