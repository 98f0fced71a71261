"""A parent that is killed while arrays are on their way, by its own hand: see `measures.killed`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    from benchmarks.speed import measures, work
    from benchmarks.speed.catalogue import LIBRARIES

    name, method, size = sys.argv[1:]
    pool = LIBRARIES[name](2, method)
    pool.open()
    results = pool.stream(work.touch, measures.distinct(int(size)), True)
    for _ in range(int(size) // 4):
        next(results)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
