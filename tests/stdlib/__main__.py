"""The command: each suite under each start method, in a process of its own; then a summary.

Exits with 0 where all that ran passed, or where this Python has none of the tests; with 1 where
something failed, ended early, or matched no pattern.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stdlib import environment, suites


@dataclass
class Run:
    """What became of one suite under one start method."""

    suite: str
    method: str
    states: Counter[str] = field(default_factory=Counter)
    excluded: dict[str, tuple[str, str]] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def take(self, line: dict[str, Any]) -> None:
        """What the process said of one test."""
        state, test, text = line["state"], line["test"], line.get("text", "")
        self.states[state] += 1
        if state == "excluded":
            self.excluded[test] = line["why"], text
        elif state == "failed":
            self.failed.append((test, text))
        elif state == "skipped":
            self.skipped[test] = text


def main() -> int:
    """See above."""
    args = arguments()
    version = ".".join(map(str, sys.version_info[:3]))
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="stdlib-suites-") as place:
        python = environment.make(Path(place) / "python")
        for name in args.suites or suites.NAMES:
            suite = suites.suite(name)
            missing = suite.missing()
            print(f"== {suite.TITLE}, Python {version} ==", flush=True)
            if missing:
                print(f"   not run: {missing}")
                continue
            for method in args.start_method or suites.START_METHODS:
                runs.append(one(python, name, method, args))
    show_exclusions(runs)
    failed = [(run, *each) for run in runs for each in run.failed]
    for run, test, text in failed:
        print(f"\nFAILED {test} [{run.suite}, {run.method}]\n{text.rstrip()}")
    passed = sum(run.states["passed"] for run in runs)
    print(f"\nPython {version}: {passed} passed, {len(failed)} failed")
    if runs and not passed:
        print("nothing was run: is the pattern right?")
    return 1 if failed or (runs and not passed) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stdlib-suites",
        description="Runs the standard library's tests of its process pools against andon's.",
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="pool, executor (default: both)")
    parser.add_argument("--start-method", action="append", choices=suites.START_METHODS)
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN", help="these tests")
    parser.add_argument("--excluded", action="store_true", help="run what is excluded instead")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one test")
    args = parser.parse_args()
    for name in args.suites:
        if name not in suites.NAMES:
            parser.error(f"SUITE must be one of {', '.join(suites.NAMES)}, not {name!r}")
    return args


def one(python: Path, name: str, method: str, args: argparse.Namespace) -> Run:
    """Run it and read what it says."""
    run = Run(name, method)
    command = [str(python), "-m", "tests.stdlib.run", name, method, f"--limit={args.limit}"]
    command += [word for pattern in args.k for word in ("-k", pattern)]
    command += ["--excluded"] * args.excluded
    env = {**os.environ, environment.SUITE: name, environment.METHOD: method}
    begun = "before the first test"
    ended = False
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="stdlib-suites-") as cwd,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise,
        subprocess.Popen(
            command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=noise
        ) as process,
    ):
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            begun = line.get("begun", begun)
            ended = ended or "end" in line
            if "state" in line:
                run.take(line)
        status = process.wait()
        noise.seek(0)
        heard = noise.read()
    if status or not ended:
        run.failed.append((begun, f"the process ended with status {status}\n{heard[-20_000:]}"))
    run.seconds = time.monotonic() - start
    states = run.states
    ran = states["passed"] + len(run.failed)
    print(
        f"   {method:<11} {ran:>4} ran  {states['passed']:>4} passed  {len(run.failed):>3} failed  "
        f"{states['skipped']:>3} skipped  {states['excluded']:>3} excluded  {run.seconds:6.1f} s",
        flush=True,
    )
    return run


def show_exclusions(runs: list[Run]) -> None:
    """Each once, under its reason; and what the tests themselves have skipped."""
    for why in suites.Why:
        told = {
            (test, text)
            for run in runs
            for test, (reason, text) in run.excluded.items()
            if reason == why.name
        }
        if told:
            print(f"\nexcluded: {why.value}")
        for test, text in sorted(told):
            print(f"   {test}: {text}")
    skipped = {each for run in runs for each in run.skipped.items()}
    if skipped:
        print("\nskipped by the tests themselves")
    for test, text in sorted(skipped):
        print(f"   {test}: {text}")


if __name__ == "__main__":
    sys.exit(main())
