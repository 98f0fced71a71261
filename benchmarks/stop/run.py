"""All rounds of the stop latencies: each library in turn, in each row."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from contextlib import suppress

from benchmarks.hosts import HostDied, end_orphans
from benchmarks.stamps import AFTER, CHILD, CHILD_DEATH, EXCEPTION, FIRST, RAISED, Stamps
from benchmarks.stop import bare, report
from benchmarks.stop.processes import StopHost, Watcher

SHARED = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Run:
    """All rounds of one call of the program."""

    def __init__(self, options: argparse.Namespace, libraries: list[str]) -> None:
        self._options = options
        self._libraries = libraries
        self._rows: list[str] = options.rows
        self._hosts = {
            name: StopHost(name, options.workers, options.start_method, options.kill_after)
            for name in libraries
        }
        self._watcher = Watcher()
        self._folder = tempfile.TemporaryDirectory(prefix="andon-bench-", dir=SHARED)
        self._files = 0
        self.bare = report.Bare()
        self.cells: report.Cells = {
            (row, name): report.Cell() for row in self._rows for name in libraries
        }

    def rounds(self) -> None:
        """One more than asked for: the first is a rehearsal, and not counted."""
        count = len(self._libraries)
        for number in range(self._options.rounds + 1):
            counted = number > 0
            self._say(f"round {number} of {self._options.rounds}" if counted else "rehearsal")
            self._measure_bare(counted)
            for row in self._rows:
                for i in range(count):  # nobody is always first, or always after the same one
                    name = self._libraries[(i + number) % count]
                    if not self.cells[row, name].hopeless:
                        self._say(f"{number}: {row}, {name}", transient=True)
                        self._measure(row, name, counted)

    def _measure_bare(self, counted: bool) -> None:
        path, _ = self._file()
        byte = bare.byte_seen(path, self._options.workers - 1)
        trip = bare.round_trip()
        asleep, busy = (bare.signal_felt(path, state) for state in ("sleep", "loop"))
        event = bare.event_check()
        andon = self._hosts.get("andon")
        start = bare.worker_start() if andon is not None else 0
        check = andon.cost_of_check() if andon is not None else None
        os.unlink(path)
        if counted:
            for values, ns in (
                (self.bare.byte, byte),
                (self.bare.round_trip, trip),
                (self.bare.signal_asleep, asleep),
                (self.bare.signal_busy, busy),
                (self.bare.worker_start, start),
            ):
                if ns:
                    values.append(ns / 1e6)
            self.bare.event.append(event)
            if check:
                self.bare.check.append(check)

    def _measure(self, row: str, name: str, counted: bool) -> None:
        options, host, bound = self._options, self._hosts[name], self._options.bound
        siblings = range(1, options.workers)
        path, stamps = self._file()
        self._watcher.watch(path, len(siblings))
        try:
            error = host.measure(path, row, bound)
        except HostDied as died:
            error = f"its process died: {died}"
        cells = stamps.cells
        raised = cells[RAISED]
        if raised:
            until = raised / 1e9 + bound
            while time.monotonic() < until and not all(map(stamps.end_of, siblings)):
                time.sleep(0.01)
            until = min(until, time.monotonic() + 0.2)  # a child that is dying may do so
            while time.monotonic() < until and not all(_childless(stamps, s) for s in siblings):
                time.sleep(0.01)
        # A process that was killed by us, or with its host, has an end too late to count.
        in_time = raised + int(bound * 1e9)
        left = sum(not _childless(stamps, sibling, in_time) for sibling in siblings)
        self._watcher.kill()
        self._watcher.end()
        known = {self._watcher.pid, *(h.pid for h in self._hosts.values())}
        end_orphans(known)
        os.unlink(path)
        cell = self.cells[row, name]
        if error is not None and not raised:
            cell.errors.append(error)
            self._say(f"{row}, {name}: {error}\n{host.log()}")
        elif error is not None and options.verbose:
            self._say(f"{row}, {name}: {error}")
        if not counted:
            return
        cell.rounds += 1
        ends = [stamps.end_of(sibling) for sibling in siblings]
        stopped = raised and all(raised < end < in_time for end in ends)
        cell.left += left
        end = max(ends) if stopped else 0
        told = cells[EXCEPTION]
        for metric, at in (
            ("end", end),
            ("exception", told),
            (report.STOPPED, max(end, told) if end and told else 0),
            ("first", cells[FIRST]),
            ("full", stamps.met(AFTER, options.workers)),
        ):
            cell.note(metric, (at - raised) / 1e6 if raised and at else None)

    def _file(self) -> tuple[str, Stamps]:
        self._files += 1
        path = os.path.join(self._folder.name, f"stamps-{self._files}")
        return path, Stamps.create(path)

    def _say(self, text: str, *, transient: bool = False) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="" if transient else "\n", file=sys.stderr, flush=True)
        elif not transient or self._options.verbose:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        for host in self._hosts.values():
            with suppress(OSError):
                host.close()
        self._watcher.close()
        end_orphans(set())
        self._folder.cleanup()


def _childless(stamps: Stamps, sibling: int, until: float = math.inf) -> bool:
    """Has it no child, or is that dead, and not by our hand?"""
    return not stamps.of(sibling, CHILD) or 0 < stamps.of(sibling, CHILD_DEATH) < until
