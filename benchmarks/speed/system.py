"""What the system tells: memory, wake-ups, shared memory that was left. Linux only."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MB = 1e6
SHARED = "/dev/shm"


def status(field: str, path: str = "/proc/self/status") -> int:
    """A number of a status file; bytes where it says kB."""
    with open(path) as f:
        for line in f:
            if line.startswith(field + ":"):
                words = line.split()
                return int(words[1]) * (1024 if words[-1] == "kB" else 1)
    raise KeyError(field)


class Peak:
    """This process's peak memory from here on, and how much there is now; bytes."""

    def __init__(self) -> None:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        self.start = status("VmRSS")

    @property
    def highest(self) -> int:
        return status("VmHWM")

    @property
    def beyond_start(self) -> int:
        return max(0, self.highest - self.start)


def switches(pid: int, but_thread: int | None = None) -> int:
    """How often its threads have gone to sleep or been put aside, but for one of them."""
    count = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        if int(thread) != but_thread:
            path = f"/proc/{pid}/task/{thread}/status"
            count += status("voluntary_ctxt_switches", path)
    return count


def descendants() -> list[int]:
    import psutil

    return [process.pid for process in psutil.Process().children(recursive=True)]


def in_shared_memory() -> set[str]:
    return set(os.listdir(SHARED)) if os.path.isdir(SHARED) else set()


def left_in_shared_memory(before: set[str], within: float = 3.0) -> set[str]:
    """What is new there, and does not go away in so many seconds. It may be another program's."""
    deadline = time.monotonic() + within
    while (left := in_shared_memory() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def this_thread() -> int:
    return threading.get_native_id()


@contextmanager
def stamps_file() -> Iterator[str]:
    """A new file of stamps, for tasks that meet."""
    from benchmarks.stamps import Stamps

    with tempfile.TemporaryDirectory(prefix="andon-bench-") as folder:
        path = os.path.join(folder, "stamps")
        Stamps.create(path)
        yield path
