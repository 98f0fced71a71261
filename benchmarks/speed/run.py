"""All rounds: in each row, round by round, every library in turn."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.hosts import Host, HostDied, end_orphans
from benchmarks.speed import system, work
from benchmarks.speed.catalogue import ALL, EVENTS
from benchmarks.speed.rows import ROWS, Row

Result = dict[str, Any]  # what is written as JSON


def iterations_per_microsecond() -> float:
    """Of `work.spin`, here and now; the best of some."""
    count, best = 200_000, float("inf")
    for _ in range(7):
        begun = time.perf_counter()
        work.spin(count)
        best = min(best, time.perf_counter() - begun)
    return count / best / 1e6


class Run:
    """`libraries`: those that are installed; the events take part by themselves."""

    def __init__(
        self,
        libraries: list[str],
        *,
        method: str,
        workers: int,
        rounds: int,
        quick: bool,
        verbose: bool,
    ) -> None:
        self._libraries = libraries
        self._method, self._workers = method, workers
        self._rounds, self._quick, self._verbose = rounds, quick, verbose
        self._hosts: dict[str, Host] = {}
        self._unit = iterations_per_microsecond()

    def row(self, row: Row) -> Result:
        """One row, all rounds; as it is written."""
        method = row.method or self._method
        names = [n for n in row.participants if n in self._libraries or n in EVENTS]
        names = [n for n in names if row.method is None or ALL[n].start in ("", method)]
        cells: dict[str, Result] = {name: self._cell(row, name, method) for name in names}
        rounds = min(self._rounds, row.rounds or self._rounds)
        for number in range(rounds):
            takes_part = [name for name in names if "size" in cells[name]]
            turn = number % max(1, len(takes_part))  # nobody is always first
            for name in takes_part[turn:] + takes_part[:turn]:
                self._say(f"{row.name}: round {number + 1} of {rounds}, {name}")
                found = self._ask(row, name, method, cells[name]["size"], None)
                self._note(row, name, cells[name], found)
        for cell in cells.values():
            if not any(cell["values"].values()):
                cell.pop("size", None)
        return {
            "name": row.name,
            "title": row.title,
            "method": method,
            "workers": row.workers or self._workers,
            "rounds": rounds,
            "metrics": [metric._asdict() for metric in row.metrics],
            "targets": [target._asdict() for target in row.targets],
            "full_size": row.quick if self._quick else row.size,
            "cells": cells,
        }

    def _cell(self, row: Row, name: str, method: str) -> Result:
        """With the size that this library can take in its time."""
        cell: Result = {
            "values": {metric.name: [] for metric in row.metrics},
            "error": None,
        }
        size = row.quick if self._quick else row.size
        if row.budget is None or name in row.whole:
            cell["size"] = size
            return cell
        self._say(f"{row.name}: how much can {name} take?")
        found = self._ask(row, name, method, size, row.budget / (10 if self._quick else 1))
        if found.get("unsupported"):
            cell["unsupported"] = True
        elif "size" in found:
            cell["size"] = found["size"]
        else:
            self._tell_error(row, name, found["error"])
            cell["error"] = found["error"]
        return cell

    def _note(self, row: Row, name: str, cell: Result, found: Result) -> None:
        if "values" not in found:
            if found.get("unsupported"):
                cell["unsupported"] = True
            else:
                self._tell_error(row, name, found["error"])
                cell["error"] = found["error"]
            del cell["size"]  # once is enough
            return
        for metric in row.metrics:
            cell["values"][metric.name].append(found["values"][metric.name])

    def _ask(
        self, row: Row, name: str, method: str, size: int, budget: float | None
    ) -> Result:
        if row.fresh and name in self._hosts:
            self._hosts.pop(name).close()
        before = system.in_shared_memory()
        if name not in self._hosts:
            self._hosts[name] = Host("speed.host", name)
        host = self._hosts[name]
        found: Result | None
        try:
            host.ask(
                row=row.name,
                method=method,
                workers=row.workers or self._workers,
                size=size,
                unit=self._unit,
                budget=budget,
            )
            found = host.answer(row.within)
        except HostDied as died:
            found = {"error": f"its process died: {died}"}
        if found is None:
            found = {"error": f"no end within {row.within:g} s"}
        if "error" in found:
            host.kill()
        if row.fresh:
            self._hosts.pop(name).close()
            if "values" in found:  # now that its process has ended
                left = system.left_in_shared_memory(before)
                found["values"].setdefault("left", float(len(left)))
        end_orphans({each.pid for each in self._hosts.values()})
        return found

    def _tell_error(self, row: Row, name: str, error: str) -> None:
        text = error if self._verbose else error.strip().rpartition("\n")[2]
        print(f"\n{row.name}, {name}: {text}", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif self._verbose:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        for host in self._hosts.values():
            with suppress(OSError):
                host.close()
        end_orphans(set())
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)


def rows_named(names: list[str]) -> list[Row]:
    """In the order of the catalogue; what is no row's name stands for all that begin with it."""
    return [
        row
        for row in ROWS.values()
        if not names
        or row.name in names
        or any(row.name.startswith(f"{name}-") for name in names if name not in ROWS)
    ]
