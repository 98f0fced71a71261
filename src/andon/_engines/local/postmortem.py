"""What can be said of a worker that is dead (S25): for people who were not there."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from andon import _board, _worker
from andon._core.events import AttemptEnded, Died, Event, Failed
from andon._engines.payloads import Death, Raised
from andon._worker.signals import STACK_SIGNAL
from andon.errors import WorkerDiedError

if TYPE_CHECKING:
    from andon._engines.local.worker_process import WorkerProcess

_SIGKILL = 9  # Windows has no name for it; there it stands for the end of a job

# Where a worker calls the task: what lies below in a stack is the worker itself.
_WORKER = os.path.dirname(_worker.__file__ or "")
_CALLER = f'"{os.path.join(_WORKER, "call.py")}"'
_LISTENER = f'"{os.path.join(_WORKER, "orders.py")}"'  # a thread that is the worker's own

_DOING = {
    _board.IDLE: "after the task, whose answer cannot be read",
    _board.UNPICKLING: "while unpickling the arguments of the task",
    _board.RUNNING: "while running the task",
    _board.PICKLING: "while pickling the result of the task, or what it raised",
    _board.SENDING: "while sending the result of the task",
    _board.BOOTING: "while starting",
    _board.INITIALISING: "while running the initializer",
}


def died(worker: WorkerProcess, now: float, ordered: bool, hint: str) -> list[Event]:
    """The end of the attempt that this dead worker had."""
    attempt, row = worker.attempt, worker.row
    assert attempt is not None
    at = worker.next_index
    if at >= attempt.hi:
        return [AttemptEnded(attempt.id)]  # all its answers had come
    # Where the worker is further than its answers, a task has garbled these: what ran is not run
    # again (S13).
    events = [
        _lost(worker, index, now)
        for index in (range(at, min(row.index, attempt.hi - 1)) if worker.begun else ())
    ]
    at += len(events)
    # The row speaks of the attempt, and of the item that is due, only once that has begun: before
    # it, nothing of it has run, and it is safe to run elsewhere.
    begun = worker.begun and row.index == at
    started_at = row.started_at if begun else None
    phase = row.phase if begun else _board.IDLE
    text = tell(worker, phase if begun else None, worker.why_killed if ordered else hint)
    payload = Death(
        pid=worker.pid or 0,
        exitcode=worker.exitcode,
        phase=_board.PHASES[phase] if begun else "idle",
        text=text,
        started_at=started_at,
        ended_at=now,
        stack=stack_text(bytes(worker.stack)),
    )
    item = at if begun else None
    return [*events, Died(attempt.id, ordered, item, _started(begun, started_at, phase), payload)]


def _started(begun: bool, started_at: float | None, phase: int) -> bool | None:
    if started_at is not None:
        return True
    # A row that is between two items names the one that is over, and its start no more (S13).
    return False if not begun or phase == _board.UNPICKLING else None


def _lost(worker: WorkerProcess, index: int, now: float) -> Failed:
    assert worker.attempt is not None
    error = WorkerDiedError(
        f"the task's answer cannot be read: a task has written into the pipe of worker "
        f"{worker.pid}, which was killed for that",
        pid=worker.pid,
        exitcode=worker.exitcode,
        phase="sending",
    )
    return Failed(worker.attempt.id, index, Raised(error, None, now))


def tell(worker: WorkerProcess, phase: int | None, hint: str) -> str:
    """One sentence; `phase` None: it had not begun."""
    code = worker.exitcode
    if code is None:
        how = "was lost"
    elif code >= 0:
        how = f"exited with status {code}"
    else:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "SIGKILL" if -code == _SIGKILL else f"signal {-code}"
        how = f"was killed by {name}" if -code == _SIGKILL else f"died of {name}"
    if phase is not None:
        doing = _DOING.get(phase, "between two tasks")
    else:
        doing = "before it began the task" if worker.attempt is not None else "while idle"
    return f"worker {worker.pid or '(not yet started)'} {how} {doing}{hint}"


def stack_text(dump: bytes) -> str | None:
    """A dump of `faulthandler` without the frames below the call of the task."""
    shown: list[str] = []
    below, begun = False, 0
    for line in dump.decode("utf-8", "replace").splitlines():
        if not line.startswith("  File "):
            below, begun = False, len(shown)  # the next thread begins
        elif _CALLER in line:
            below = True
        elif _LISTENER in line:
            del shown[begun:]
            below = True
        if not below:
            shown.append(line)
    return "\n".join(shown) or None


def oom_kills() -> int:
    """How many processes of our control group the kernel has killed for memory; 0: unknown."""
    try:
        with open("/proc/self/cgroup") as f:
            path = f.read().partition("0::")[2].partition("\n")[0]
        with open(f"/sys/fs/cgroup{path}/memory.events") as f:
            for line in f:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    except (OSError, ValueError):
        pass
    return 0


def kill_hint(worker: WorkerProcess, before: int) -> str:
    """Why we have killed it; or what a SIGKILL out of the blue most often means."""
    if worker.exitcode != -_SIGKILL:
        return ""
    if worker.why_killed:
        return worker.why_killed
    if oom_kills() > before:
        return "; the kernel has killed processes of this control group for lack of memory"
    return "; if you did not send it, the system may have run out of memory (see `dmesg`)"


def by_our_kill(exitcode: int | None, *, asked: bool) -> bool:
    """Is this how our own stop ends a worker (S26)? `asked`: for its stack, which it may not
    survive. Asked before it could answer, it dies of that signal; asked while the interpreter set
    up a frame, of what `faulthandler` finds there (seldom; up to one in 70 on 3.13, in code that
    does little else). Without a template, nobody can tell."""
    if exitcode is None:
        return True
    signals = {_SIGKILL, STACK_SIGNAL or _SIGKILL}
    if asked and sys.platform != "win32":
        signals |= {signal.SIGSEGV, signal.SIGBUS}
    return -exitcode in signals
