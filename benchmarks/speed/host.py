"""The process in which one library is measured: it is the caller. See `benchmarks.hosts.Host`.

Its answer tells the values, or that the library has no such thing, or the error.
"""

from __future__ import annotations

import sys
from typing import Any

_FIRST_SIZE = 200
_GROW = 8


def main() -> None:
    import traceback

    from benchmarks.programs import serving
    from benchmarks.speed.pools import Unsupported

    requests, answer = serving(sys.argv[2:])
    for request in requests:
        try:
            answer(**_measure(sys.argv[1], **request))
        except Unsupported:
            answer(unsupported=True)
        except BaseException:
            answer(error=traceback.format_exc())


def _measure(
    name: str,
    row: str,
    method: str,
    workers: int,
    size: int,
    unit: float,
    budget: float | None,
) -> dict[str, Any]:
    """With a `budget`: find the size that takes about so many seconds, at most `size`."""
    from benchmarks.speed import measures
    from benchmarks.speed.catalogue import ALL
    from benchmarks.speed.rows import ROWS

    pool, this = ALL[name](workers, method), ROWS[row]
    if this.opened:
        pool.open()
        try:
            measures.warm(pool)
            if budget is not None:
                return {"size": _fitting(pool, this, size, unit, budget)}
            values = this.measure(pool, size, unit)
        finally:
            pool.close()
    else:
        values = this.measure(pool, size, unit)
    return {"values": values}


def _fitting(pool: Any, row: Any, most: int, unit: float, budget: float) -> int:
    size = min(_FIRST_SIZE, most)
    while True:
        seconds = row.measure(pool, size, unit)["seconds"]
        if size >= most or seconds >= budget / _GROW:
            return min(most, max(size, int(size * budget / seconds)))
        size = min(most, size * _GROW)


if __name__ == "__main__":
    main()
