"""The processes of the benchmark itself: one host per library, the watcher, and whatever is left.

Every wait has a bound, and every process that does not end is killed by its pid.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any

import psutil
from stamps import EXCEPTION, FIRST, RAISED, Stamps

HERE = os.path.dirname(os.path.abspath(__file__))
START_WITHIN = 60.0  # for a pool to start, and its tasks to be in their state
CLOSE_WITHIN = 5.0
_LOOK_EVERY = 0.25
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """What a library leaves behind comes to us, so that we can see it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Watcher:
    """See watcher.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", os.path.join(HERE, "watcher.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
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


class HostDied(Exception):
    """The library took its process along."""


class Host:
    """One library's process (see host.py), started when first needed and again when it was lost."""

    def __init__(self, library: str, workers: int, method: str, kill_after: float) -> None:
        self._arguments = [library, str(workers), method, str(kill_after)]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._to = self._from = -1
        self._rest = b""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def measure(self, path: str, row: str, bound: float) -> str | None:
        """Have it measured; the times are in the stamps. What went wrong, if something did."""
        self._ask(path=path, row=row)
        stamps = Stamps(path)
        begun = time.monotonic()
        while (found := self._answer(_LOOK_EVERY)) is None:
            last = max(stamps.cells[at] for at in (RAISED, EXCEPTION, FIRST))
            now = time.monotonic()
            if now > last / 1e9 + bound if last else now > begun + START_WITHIN:
                self.kill()
                return f"no end within {bound:g} s" if last else "did not start"
        error: str | None = found["error"]
        closed = self._answer(CLOSE_WITHIN)
        if error is not None or closed is None or not closed["closed"]:
            self.kill()
        return error

    def cost_of_check(self) -> float | None:
        """Only andon's: nanoseconds."""
        self._ask(check=True)
        found = self._answer(START_WITHIN)
        return None if found is None else float(found["ns"])

    def log(self) -> str:
        """The end of what its processes have printed."""
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")

    def _ask(self, **what: object) -> None:
        if self._process is None:
            self._start()
        os.write(self._to, json.dumps(what).encode() + b"\n")

    def _answer(self, within: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + within
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self._from], [], [], left)[0]:
                return None
            data = os.read(self._from, 65536)
            if not data:
                self.kill()
                raise HostDied(self.log())
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _start(self) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._rest = b""
        self._process = subprocess.Popen(
            [
                sys.executable,
                os.path.join(HERE, "host.py"),
                *self._arguments,
                str(theirs_in),
                str(theirs_out),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(theirs_in, theirs_out),
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def kill(self) -> None:
        """It and all that it has started. But resource trackers end by themselves, once nobody
        is left who has something for them to track, and remove what has been left in /dev/shm."""
        if self._process is None:
            return
        process, self._process = self._process, None
        trackers = []
        with suppress(psutil.NoSuchProcess):
            host = psutil.Process(process.pid)
            for each in (host, *host.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    if any("resource_tracker" in word for word in each.cmdline()):
                        trackers.append(each)
                    else:
                        each.kill()
        process.wait()
        psutil.wait_procs(trackers, CLOSE_WITHIN)
        os.close(self._to)
        os.close(self._from)

    def close(self) -> None:
        """Let it leave, if it will."""
        if self._process is not None:
            os.close(self._to)
            self._to = os.open(os.devnull, os.O_WRONLY)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_WITHIN)
            self.kill()


def end_orphans(known: set[int | None]) -> int:
    """Kill and reap those that came to us; how many were still alive."""
    count = 0
    while True:
        found = [p for p in psutil.Process().children() if p.pid not in known]
        if not found:
            return count
        for process in found:
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    count += 1
                    process.kill()
            with suppress(ChildProcessError):
                os.waitpid(process.pid, 0)
