"""What the machine itself needs, without any library: what the figures are held against."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import statistics
import subprocess
import sys
import time

from benchmarks.programs import ROOT, module_command
from benchmarks.stamps import END, READY, SET, Stamps, cell, wait
from benchmarks.stop.states import SETTLE

TRIPS = 200
SIGNALS = 9


def byte_seen(path: str, siblings: int) -> int:
    """Nanoseconds from setting one shared byte until the last of the processes that look at it,
    each in a Python loop, has seen it; 0 where that took too long."""
    _run("byte", path, siblings)
    stamps = Stamps(path)
    ends = [stamps.of(sibling, END) for sibling in range(1, siblings + 1)]
    return max(ends) - stamps.cells[SET] if all(ends) else 0


def signal_felt(path: str, state: str) -> int:
    """Nanoseconds, the median, from sending a signal to another process until its handler's
    exception is caught there; it is in `time.sleep` or in a Python loop: `sleep`, `loop`."""
    return int(_run("signal", path, state))


def event_check() -> int:
    """Nanoseconds for one `is_set()` of a `multiprocessing.Event` that nobody else asks."""
    # Of this context, for others start a process of their own for it.
    check, loops = multiprocessing.get_context("fork").Event().is_set, 2000
    begun = time.perf_counter_ns()
    for _ in range(loops):
        check()
    return (time.perf_counter_ns() - begun) // loops


def round_trip() -> int:
    """Nanoseconds, the median, for a byte over a pipe to another process and back: each time, one
    that sleeps is woken."""
    echo = "import os\nwhile byte := os.read(0, 1): os.write(1, byte)"
    command = [sys.executable, "-S", "-E", "-c", echo]
    times = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        there, back = process.stdin.fileno(), process.stdout.fileno()
        for _ in range(TRIPS):
            begun = time.monotonic_ns()
            os.write(there, b".")
            if os.read(back, 1) != b".":
                return 0
            times.append(time.monotonic_ns() - begun)
        process.stdin.close()
    return round(statistics.median(times))


def worker_start() -> int:
    """Nanoseconds from starting a fresh interpreter until it has imported what andon's worker
    imports, and its first byte is here."""
    import andon

    home = os.path.dirname(os.path.dirname(os.path.abspath(andon.__file__)))
    # The way of andon's workers: the path is given, the program is not run again.
    code = (
        f"import sys; sys.path[:] = {[home, *sys.path]!r}; "
        "import andon._worker.boot; import os; os.write(1, b'.')"
    )
    begun = time.monotonic_ns()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = select.select([process.stdout], [], [], 30)[0]
        if not ready or os.read(process.stdout.fileno(), 1) != b".":
            process.kill()
            return 0
        return time.monotonic_ns() - begun


def _run(what: str, path: str, argument: object) -> str:
    """In a process of its own, which has no threads and may fork."""
    done = subprocess.run(
        module_command("stop.bare", what, path, argument, flags=("-S", "-E")),
        check=True,
        timeout=60,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


class _Felt(Exception):
    pass


def _raise_felt(number: int, frame: object) -> None:
    raise _Felt


def _send_signals(path: str, state: str) -> None:
    cells = Stamps(path).cells
    ready, end = cell(1, READY), cell(1, END)
    times = []
    for _ in range(SIGNALS):
        cells[ready] = cells[end] = 0
        pid = os.fork()
        if not pid:
            try:
                signal.signal(signal.SIGUSR1, _raise_felt)
                cells[ready] = 1
                if state == "sleep":
                    time.sleep(60)
                while True:
                    pass
            except _Felt:
                cells[end] = time.monotonic_ns()
            finally:
                os._exit(0)
        try:
            wait(lambda: cells[ready], 0.0005)
            time.sleep(SETTLE)
            begun = time.monotonic_ns()
            os.kill(pid, signal.SIGUSR1)
            wait(lambda: cells[end], 0.002)
            times.append(cells[end] - begun)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(round(statistics.median(times)))


def _set_byte(path: str, siblings: int) -> None:
    stamps = Stamps(path)
    cells = stamps.cells
    flag = cells.cast("B")
    pids = []
    try:
        for sibling in range(1, siblings + 1):
            pid = os.fork()
            if not pid:
                try:
                    end = cell(sibling, END)
                    cells[cell(sibling, READY)] = 1
                    while not flag[0]:
                        pass
                    cells[end] = time.monotonic_ns()
                finally:
                    os._exit(0)
            pids.append(pid)
        wait(lambda: all(stamps.of(s, READY) for s in range(1, siblings + 1)), 0.0005)
        time.sleep(SETTLE)
        cells[SET] = time.monotonic_ns()
        flag[0] = 1
        wait(lambda: all(stamps.of(s, END) for s in range(1, siblings + 1)), 0.01)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    if sys.argv[1] == "byte":
        _set_byte(sys.argv[2], int(sys.argv[3]))
    else:
        _send_signals(*sys.argv[2:])
