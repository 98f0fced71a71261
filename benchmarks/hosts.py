"""The processes of the benchmarks: a host for each library, and whatever is left behind.

Every wait has a bound, and every process that does not end is killed by its pid.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import select
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import Any

import psutil

from benchmarks.programs import ROOT, module_command

CLOSE_WITHIN = 5.0  # seconds
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """What a library leaves behind comes to us, so that we can see it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def machine() -> dict[str, Any]:
    """Where all this was measured."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
    }


class Stolen:
    """How much of the cores' time a host of virtual machines has kept from us since this was made:
    with that they are not idle, whatever the load says."""

    def __init__(self) -> None:
        self._begun, self._before = time.monotonic(), _stolen()

    def share(self) -> float:
        """Of all cores' time, between 0 and 1; 0 too where the system does not tell."""
        whole = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        return (_stolen() - self._before) / whole


def _stolen() -> float:
    """Seconds, of all cores, since the system was started."""
    try:
        with open("/proc/stat") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


class HostDied(Exception):
    """The library took its process along."""


class Host:
    """One library's process, started when first needed and again when it was lost.

    It runs a module of ours, whose last two arguments are the descriptors that it reads its
    requests from and writes its answers to, a line of JSON each.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self._command = module_command(module, *arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._to = self._from = -1
        self._rest = b""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def log(self) -> str:
        """The end of what its processes have printed."""
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")

    def ask(self, **what: object) -> None:
        """Send a request."""
        if self._process is None:
            self._start()
        os.write(self._to, json.dumps(what).encode() + b"\n")

    def answer(self, within: float) -> dict[str, Any] | None:
        """The next answer; None where none came in so many seconds."""
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
            [*self._command, str(theirs_in), str(theirs_out)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(theirs_in, theirs_out),
            start_new_session=True,
            cwd=ROOT,
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
