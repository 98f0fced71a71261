"""What a suite is: the tests to run, what takes whose place, and what is excluded, and why."""

from __future__ import annotations

import enum
import fnmatch
import importlib
import sys
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

NAMES = ("pool", "executor")
START_METHODS = ("fork", "forkserver", "spawn")


class Why(enum.Enum):
    """The only good reasons."""

    DIFFERENCE = "a difference on purpose (docs/porting.md)"
    PRIVATE = "a private attribute or the insides of the standard class"


@dataclass(frozen=True)
class Exclusion:
    """Tests by `Class.test`, with `*` and `?`; what they ask for in `detail`.

    `since`: from that Python on; `methods`: under these. One that matches no test fails the run,
    unless it is one that has `come_late`, to this or that release of an older Python.
    """

    pattern: str
    why: Why
    detail: str
    since: tuple[int, int] = (3, 0)
    methods: tuple[str, ...] = START_METHODS
    come_late: bool = False

    def applies(self, method: str) -> bool:
        """To this Python, under this start method?"""
        return sys.version_info >= self.since and method in self.methods

    def matches(self, test: str) -> bool:
        """Is `Class.test` excluded?"""
        return fnmatch.fnmatchcase(test, self.pattern)


def suite(name: str) -> ModuleType:
    """`pool` or `executor`: each has `TITLE`, `EXCLUDED`, `missing()`, `substitute()` and
    `tests(method)`."""
    return importlib.import_module(f"tests.stdlib.{name}")


def flat(tests: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Every single test."""
    for each in tests:
        if isinstance(each, unittest.TestSuite):
            yield from flat(each)
        else:
            yield each


def short_name(test: unittest.TestCase) -> str:
    """`Class.test`."""
    return ".".join(test.id().split(".")[-2:])
