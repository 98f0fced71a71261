"""The process in which one library is measured: it is the caller.

A process of its own, because a library may never come back from its own stop, and so that no
library's threads are in another's way. Reads lines of JSON from one descriptor, answers on another.
"""

from __future__ import annotations

import sys


def main() -> None:
    import traceback

    from benchmarks.programs import serving
    from benchmarks.stamps import Stamps
    from benchmarks.stop.peers import LIBRARIES
    from benchmarks.stop.states import Job, cost_of_check

    name, workers, method, kill_after = sys.argv[1:5]
    requests, answer = serving(sys.argv[5:])
    library = LIBRARIES[name](int(workers), method, float(kill_after))

    for request in requests:
        if request.get("check"):
            import andon

            with andon.Pool(1, start_method=method) as pool:
                answer(ns=pool.apply(cost_of_check))
            continue
        job = Job(request["path"], request["row"], int(workers), name == "andon")
        try:
            library.measure(job, Stamps(job.path))
        except BaseException:
            answer(error=traceback.format_exc())
        else:
            answer(error=None)
        try:
            library.close()
        except BaseException:
            answer(closed=False, error=traceback.format_exc())
        else:
            answer(closed=True)


if __name__ == "__main__":
    main()
