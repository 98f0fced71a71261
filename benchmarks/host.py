"""The process in which one library is measured: it is the caller.

A process of its own, because a library may never come back from its own stop, and so that no
library's threads are in another's way. Reads lines of JSON from one descriptor, answers on another.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    import traceback

    from peers import LIBRARIES
    from stamps import Stamps
    from states import Job, cost_of_check

    name, workers, method, kill_after = sys.argv[1:5]
    fd_in, fd_out = int(sys.argv[5]), int(sys.argv[6])
    for fd in (fd_in, fd_out):
        os.set_inheritable(fd, False)
    requests = os.fdopen(fd_in)
    library = LIBRARIES[name](int(workers), method, float(kill_after))

    def answer(**what: object) -> None:
        os.write(fd_out, json.dumps(what).encode() + b"\n")

    for line in requests:
        request = json.loads(line)
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
