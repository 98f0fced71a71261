"""One suite under one start method, in the Python of `environment`; a line of JSON for each test.

`python -m tests.stdlib.run SUITE METHOD [-k PATTERN]... [--excluded] [--limit SECONDS]`
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import json
import os
import sys
import unittest
from typing import Any

from tests.stdlib import environment, suites


class Report(unittest.TestResult):
    """Says what becomes of each test as it goes, and ends the process when one hangs."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        say(begun=suites.short_name(test))
        faulthandler.dump_traceback_later(self._limit, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        say(test=suites.short_name(test), state="passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        say(test=suites.short_name(test), state="skipped", text=reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        say(test=suites.short_name(test), state="passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        say(test=suites.short_name(test), state="failed", text="unexpected success")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._failed(test, err)

    def addError(self, test: Any, err: Any) -> None:  # a class's or module's set-up, too
        self._failed(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._failed(test, err)

    def _failed(self, test: Any, err: Any) -> None:
        text = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
        say(test=suites.short_name(test), state="failed", text=text)


# What the tests print, in this process and others, goes with what they complain of; ours stays
# alone, for the command to read.
_ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def say(**what: Any) -> None:
    """A line for the command to read."""
    print(json.dumps(what), file=_ours, flush=True)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", choices=suites.NAMES)
    parser.add_argument("method", choices=suites.START_METHODS)
    parser.add_argument("-k", action="append", default=[])
    parser.add_argument("--excluded", action="store_true")
    parser.add_argument("--limit", type=float, default=120.0)
    args = parser.parse_args()
    if args.suite not in environment.taken:
        sys.exit("the standard class is still in its place: this wants the Python of `environment`")
    suite = suites.suite(args.suite)
    exclusions = [each for each in suite.EXCLUDED if each.applies(args.method)]
    unused = set(exclusions)
    chosen = unittest.TestSuite()
    for test in suites.flat(suite.tests(args.method)):
        name = suites.short_name(test)
        matching = [each for each in exclusions if each.matches(name)]
        unused -= set(matching)
        if args.k and not any(fnmatch.fnmatchcase(name, f"*{each}*") for each in args.k):
            continue
        if matching and not args.excluded:
            each = matching[0]
            say(test=name, state="excluded", why=each.why.name, text=each.detail)
        elif bool(matching) == args.excluded:
            chosen.addTest(test)
    for each in (each for each in unused if not each.come_late):
        say(test=each.pattern, state="failed", text="this exclusion matches no test: take it out")
    chosen.run(Report(args.limit))
    say(end=True)


if __name__ == "__main__":
    main()
