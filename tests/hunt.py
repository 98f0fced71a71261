"""Races are hunted by repetition under load: `scripts/hunt N [pytest arguments]`.

Each round runs all that the arguments select, beside processes that keep every core busy
(`ANDON_HUNT_BUSY` says how many, 0 for none), with another seed for what is drawn at random
(`tests.support.dice`; `ANDON_TEST_SEED` names the series). The first failure ends the hunt;
`--maxfail=9` lets it go on. The last lines say how often each test was run.

    scripts/hunt 200 tests/survival/test_parent.py -k S20
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.support import SEED, cores

ROUNDS = "ANDON_HUNT_ROUNDS"
BUSY = "ANDON_HUNT_BUSY"
# Each ends by itself, should we be killed before we end it.
LOAD = (
    "import os\n"
    "parent = os.getppid()\n"
    "while os.getppid() == parent:\n"
    "    for _ in range(100_000): pass\n"
)
SHOWN = 12  # tests by name in the totals; else their numbers say it


class Hunt:
    """The plug-in: pytest's loop, again and again."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.done = 0
        self.runs: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly:
            return None
        items = session.items
        series = os.environ.get(SEED, "")
        for number in range(self.rounds):
            os.environ[SEED] = f"{series}{number}"
            last = number + 1 == self.rounds
            for item, following in zip(items, [*items[1:], None], strict=True):
                # Not the item itself, for it would not be torn down; and not None, for then the
                # fixtures of the session would be, too.
                after = following or (None if last or len(items) == 1 else items[0])
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                self.runs[item.nodeid] += 1
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
            self.done += 1
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        failed = len(terminalreporter.stats.get("failed", []))
        errors = len(terminalreporter.stats.get("error", []))
        terminalreporter.section("hunt")
        for test, runs in sorted(self.runs.items())[:SHOWN]:
            terminalreporter.line(f"{runs:6} {test}")
        if len(self.runs) > SHOWN:
            terminalreporter.line(f"       … {len(self.runs)} tests in all")
        terminalreporter.line(
            f"{self.done} of {self.rounds} rounds, {self.runs.total()} runs of "
            f"{len(self.runs)} tests: {failed} failed, {errors} errors"
        )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Hunt(int(os.environ[ROUNDS])))


def main(rounds: int, arguments: list[str]) -> int:
    busy = int(os.environ.get(BUSY) or cores())
    plugins = ["-p", "tests.hunt", "-p", "no:cacheprovider"]
    style = ["-q", "-x", "-o", "console_output_style=classic"]
    with ExitStack() as stack:
        # Beside the tests, not below them: some count their children.
        for _ in range(busy):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", LOAD]))
            stack.callback(process.kill)
        try:
            return subprocess.call(
                [sys.executable, "-m", "pytest", *plugins, *style, *arguments],
                env={**os.environ, ROUNDS: str(rounds)},
            )
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
