"""All tests, by several runners at once: `python -m tests.side_by_side [pytest arguments]`.

Each runner is a plain pytest in a process of its own. All collect the same tests, and before a
runner takes the next few it claims them, so that nobody else does. (Not by threads in one process,
nor by a plug-in that has some: a process with threads cannot fork without a warning, and that is
what many tests are about.) `ANDON_TEST_RUNNERS` says how many; by default as many as cores, but no
more than three: bounds in milliseconds are kept beside one neighbour, not in a crowd.

What a runner had to say is shown when it is over, the whole of it where it failed. The last line
sums up as pytest's own does; the status is 0 only where each runner's was, and no test was lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

SHARED = "ANDON_TEST_SHARED"  # in a runner: the directory that it shares with the others
RUNNERS = "ANDON_TEST_RUNNERS"
SHOWN = 20
FEW = 6  # tests that are claimed at once: at the end no runner waits long for another

Counts = dict[str, int]
Items = list[pytest.Item]


# The plug-in of each runner ----------------------------------------------------------------------


def portions(items: Items) -> Iterator[Items]:
    """The tests in portions that are claimed as one: a few of one function, or a module that is
    marked `together`."""

    def place(item: pytest.Item) -> tuple[bool, str]:
        together = item.get_closest_marker("together") is not None
        return together, item.location[0] if together else item.nodeid.split("[")[0]

    for (together, _), run in groupby(items, key=place):
        tests = list(run)
        few = len(tests) if together else FEW
        for start in range(0, len(tests), few):
            yield tests[start : start + few]


def claim(shared: Path, tests: Items) -> bool:
    """Take this portion, unless another runner has."""
    name = hashlib.sha1("\n".join(test.nodeid for test in tests).encode()).hexdigest()
    try:
        os.close(os.open(shared / f"claimed-{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def far(item: pytest.Item, items: Items) -> pytest.Item | None:
    """One that shares no more with this item than any other does; None where it is alone."""
    chain = set(item.listchain())
    other = min((items[0], items[-1]), key=lambda it: len(chain.intersection(it.listchain())))
    return other if other is not item else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """As pytest's own loop, over what can be claimed."""
    if session.testsfailed or session.config.option.collectonly:
        return None  # errors of the collection, and a mere listing, are pytest's own affair
    shared = Path(os.environ[SHARED])
    note(shared, "collected", session.items)
    for tests in portions(session.items):
        if not claim(shared, tests):
            continue
        # Whatever comes next, claimed only when it is time for it: all that the last test of a
        # portion does not share with every other is torn down.
        for item, following in zip(tests, [*tests[1:], far(tests[-1], session.items)], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            note(shared, "ran", [item])
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    return True


def note(shared: Path, what: str, items: Items) -> None:
    with open(shared / f"{what}-{os.getpid()}", "a", encoding="utf-8") as file:
        file.writelines(f"{item.nodeid!r}\n" for item in items)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the numbers for the sum."""
    counts = {word: len(reports) for word, reports in terminalreporter.stats.items() if word}
    path = Path(os.environ[SHARED]) / f"counts-{os.getpid()}"
    path.write_text(json.dumps(counts), encoding="utf-8")


# What starts them --------------------------------------------------------------------------------


class Runner:
    """One pytest, whose output is read as it comes and shown when it is over."""

    def __init__(self, shared: Path, arguments: list[str]) -> None:
        # Without the cache of what failed: each runner would overwrite it with its own share.
        plugin = ["-p", "tests.side_by_side", "-p", "no:cacheprovider"]
        dots = ["-o", "console_output_style=classic"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", *plugin, *dots, *arguments],
            env={**os.environ, SHARED: str(shared)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._counts = shared / f"counts-{self.process.pid}"
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if re.fullmatch(r"[.sxXEF]+\n", line):  # what pytest says as it goes
                print(line, end="", flush=True)

    def wait(self) -> int:
        status = self.process.wait()
        self._thread.join(5)  # longer only where something that was left behind holds the pipe
        return status

    def counts(self) -> Counts:
        try:
            counts: Counts = json.loads(self._counts.read_text())
        except FileNotFoundError:
            return {}  # it died
        return counts

    def show(self) -> None:
        """All of it where it failed, else what pytest found worth telling at its end."""
        text = "".join(self.lines)
        if self.process.returncode == 0:
            text = "".join(text.partition("\n=")[1:])
        print(text, flush=True)


def summary(counts: list[Counts], seconds: float) -> str:
    """In pytest's words."""
    words = ["failed", "passed", "skipped", "xfailed", "xpassed", "warnings", "error"]
    totals = {word: sum(each.get(word, 0) for each in counts) for word in words}
    told = ", ".join(f"{total} {word}" for word, total in totals.items() if total)
    minutes, rest = divmod(round(seconds), 60)
    time_taken = f"{seconds:.2f}s ({minutes}:{rest:02})"
    return f" {told or 'no tests ran'} in {time_taken}, by {len(counts)} runners "


def lost(shared: Path) -> set[str]:
    """The tests that were found, and that nobody ran."""

    def noted(what: str) -> set[str]:
        files = shared.glob(f"{what}-*")
        return {line for file in files for line in file.read_text(encoding="utf-8").splitlines()}

    return noted("collected") - noted("ran")


def main(arguments: list[str]) -> int:
    from tests.support import cores

    number = int(os.environ.get(RUNNERS) or min(3, cores()))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as shared:
        runners = [Runner(Path(shared), arguments) for _ in range(number)]

        def told_to_end(signum: int, _: object) -> None:
            for runner in runners:  # each shows its stacks, if it can (faulthandler)
                runner.process.send_signal(signum)

        signal.signal(signal.SIGABRT, told_to_end)
        signal.signal(signal.SIGTERM, told_to_end)
        signal.signal(signal.SIGINT, lambda *_: None)  # a terminal's goes to the runners as well
        statuses = [runner.wait() for runner in runners]
        counts = [runner.counts() for runner in runners]
        missing = lost(Path(shared))
    for runner in runners:
        runner.show()
    for test in sorted(missing)[:SHOWN]:
        print(f"not run by anybody: {test}")
    if len(missing) > SHOWN:
        print(f"nor {len(missing) - SHOWN} others")
    print(summary(counts, time.monotonic() - began).center(100, "="))
    return max(map(abs, statuses)) or int(bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
