"""The ideal: forks that know from the start which items are theirs, and send nothing.

Each item goes to the first that is free, in the order of the items, by their known lengths: what a
pool would reach that costs nothing, but cannot look ahead either. In a process of its own, which
has no threads when it forks.
"""

from __future__ import annotations

import heapq
import os
import sys
import time

from benchmarks.hosts import Host
from benchmarks.speed.work import spin

_WITHIN = 60.0  # seconds


class Ideal:
    """`seconds` as often as wanted, then `close`."""

    def __init__(self, workers: int) -> None:
        self._host = Host("speed.ideal", workers)

    def seconds(self, items: list[int]) -> float:
        """How long `spin` takes for all of them, on every core but without a pool."""
        self._host.ask(items=items)
        found = self._host.answer(_WITHIN)
        if found is None:
            raise TimeoutError("no ideal in time")
        return float(found["seconds"])

    def close(self) -> None:
        self._host.close()


def _shares(items: list[int], workers: int) -> list[list[int]]:
    shares: list[list[int]] = [[] for _ in range(workers)]
    free = [(0, worker) for worker in range(workers)]
    for item in items:
        at, worker = heapq.heappop(free)
        shares[worker].append(item)
        heapq.heappush(free, (at + item, worker))
    return shares


def _run_apart(shares: list[list[int]]) -> float:
    """Each share in a fork, on a core of its own where there are enough; seconds from the moment
    at which all are ready to the last one's end."""
    cores = sorted(os.sched_getaffinity(0))
    ready, say_ready = os.pipe()
    go, say_go = os.pipe()
    ends, say_end = os.pipe()
    pids = []
    for number, share in enumerate(shares):
        pid = os.fork()
        if not pid:
            try:
                os.close(say_go)
                os.sched_setaffinity(0, {cores[number % len(cores)]})
                for _ in range(20):
                    spin(1000)
                os.write(say_ready, b".")
                os.read(go, 1)  # until the parent closes it
                for item in share:
                    spin(item)
                os.write(say_end, time.perf_counter_ns().to_bytes(8, "little"))
            finally:
                os._exit(0)
        pids.append(pid)
    for _ in pids:
        os.read(ready, 1)
    begun = time.perf_counter_ns()
    os.close(say_go)
    for pid in pids:
        os.waitpid(pid, 0)
    end = max(int.from_bytes(os.read(ends, 8), "little") for _ in pids)
    for fd in (ready, say_ready, go, ends, say_end):
        os.close(fd)
    return (end - begun) / 1e9


def main() -> None:
    from benchmarks.programs import serving

    workers = int(sys.argv[1])
    requests, answer = serving(sys.argv[2:])
    for request in requests:
        answer(seconds=_run_apart(_shares(request["items"], workers)))


if __name__ == "__main__":
    main()
