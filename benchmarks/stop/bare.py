"""What the machine itself needs, without any library: what the figures are held against."""

from __future__ import annotations

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


def byte_seen(path: str, siblings: int) -> int:
    """Nanoseconds from setting one shared byte until the last of the processes that look at it,
    each in a Python loop, has seen it; 0 where that took too long."""
    subprocess.run(
        module_command("stop.bare", path, siblings, flags=("-S", "-E")),
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    stamps = Stamps(path)
    ends = [stamps.of(sibling, END) for sibling in range(1, siblings + 1)]
    return max(ends) - stamps.cells[SET] if all(ends) else 0


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
    _set_byte(sys.argv[1], int(sys.argv[2]))
