"""A process that does nothing but note when others die, so that no caller's GIL is in the way.

Reads lines: `watch PATH SIBLINGS` (get hold of them, say so in the stamps, note their deaths),
`kill` (what is left of them), `end`. Answers `kill` with the number of processes killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from benchmarks.stamps import CHILD, CHILD_DEATH, DEATH, PID, READY, WATCHING, Stamps, cell

held: dict[int, int] = {}  # pidfd -> the cell for its death


def main() -> None:
    requests = sys.stdin.buffer.raw
    poller = select.poll()
    poller.register(0, select.POLLIN)
    stamps: Stamps | None = None
    waiting: set[int] = set()  # siblings that have not come yet
    while True:
        for fd, _ in poller.poll(1 if waiting else None):
            if fd != 0:
                if fd in held and stamps is not None:  # not after an `end` just now
                    stamps.cells[held.pop(fd)] = time.monotonic_ns()
                    poller.unregister(fd)
                    os.close(fd)
                continue
            words = requests.readline().decode().split()
            if not words:
                return
            if words[0] == "watch":
                stamps, waiting = Stamps(words[1]), set(range(1, int(words[2]) + 1))
            elif words[0] == "kill":
                answer(kill())
            elif words[0] == "end":
                waiting = set()
                for each in held:
                    poller.unregister(each)
                    os.close(each)
                held.clear()
        if waiting and stamps is not None:
            for sibling in [s for s in waiting if stamps.of(s, READY)]:
                waiting.discard(sibling)
                for pid_at, death_at in ((PID, DEATH), (CHILD, CHILD_DEATH)):
                    pid = stamps.of(sibling, pid_at)
                    if pid:
                        pidfd = os.pidfd_open(pid)
                        held[pidfd] = cell(sibling, death_at)
                        poller.register(pidfd, select.POLLIN)
            if not waiting:
                stamps.cells[WATCHING] = 1


def kill() -> int:
    count = 0
    for pidfd in held:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            count += 1
        except ProcessLookupError:
            pass
    return count


def answer(number: int) -> None:
    os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
