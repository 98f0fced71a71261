"""The processes of one measurement: the library's host, and the watcher of its siblings."""

from __future__ import annotations

import subprocess
import time

from benchmarks.hosts import CLOSE_WITHIN, Host
from benchmarks.programs import ROOT, module_command
from benchmarks.stamps import EXCEPTION, FIRST, RAISED, Stamps

START_WITHIN = 60.0  # for a pool to start, and its tasks to be in their state
_LOOK_EVERY = 0.25


class Watcher:
    """See watcher.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            module_command("stop.watcher", flags=("-S", "-E")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
            cwd=ROOT,
        )
        self.pid = self._process.pid

    def watch(self, path: str, siblings: int) -> None:
        self._tell(f"watch {path} {siblings}")

    def kill(self) -> int:
        """Kill what is left of those that are watched; how many there were."""
        self._tell("kill")
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._tell("end")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class StopHost(Host):
    """One library's process (see host.py)."""

    def __init__(self, library: str, workers: int, method: str, kill_after: float) -> None:
        super().__init__("stop.host", library, workers, method, kill_after)

    def measure(self, path: str, row: str, bound: float) -> str | None:
        """Have it measured; the times are in the stamps. What went wrong, if something did."""
        self.ask(path=path, row=row)
        stamps = Stamps(path)
        begun = time.monotonic()
        while (found := self.answer(_LOOK_EVERY)) is None:
            last = max(stamps.cells[at] for at in (RAISED, EXCEPTION, FIRST))
            now = time.monotonic()
            if now > last / 1e9 + bound if last else now > begun + START_WITHIN:
                self.kill()
                return f"no end within {bound:g} s" if last else "did not start"
        error: str | None = found["error"]
        closed = self.answer(CLOSE_WITHIN)
        if error is not None or closed is None or not closed["closed"]:
            self.kill()
        return error

    def cost_of_check(self) -> float | None:
        """Only andon's: nanoseconds."""
        self.ask(check=True)
        found = self.answer(START_WITHIN)
        return None if found is None else float(found["ns"])
