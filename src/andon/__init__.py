"""andon runs work in a pool of processes in which any task can stop the line.

Names are loaded when they are first used, so that `import andon` costs little, in workers too.
"""

from __future__ import annotations

# What every worker and its template load: so nothing is imported here, `typing` least of all, which
# takes as long to load as a bare interpreter to start.
TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from typing import Any

    from andon import aio as aio
    from andon._async_result import AsyncResult as AsyncResult
    from andon._cancelled import Cancelled as Cancelled
    from andon._runtime.futures import Future as Future
    from andon._worker.frozen import freeze_support as freeze_support
    from andon.context import get_context as get_context
    from andon.errors import AndonError as AndonError
    from andon.errors import CleanupError as CleanupError
    from andon.errors import GroupClosedError as GroupClosedError
    from andon.errors import GroupTimeoutError as GroupTimeoutError
    from andon.errors import InitializerError as InitializerError
    from andon.errors import InternalError as InternalError
    from andon.errors import PoolBrokenError as PoolBrokenError
    from andon.errors import PoolClosedError as PoolClosedError
    from andon.errors import PoolShutdownError as PoolShutdownError
    from andon.errors import RemoteTraceback as RemoteTraceback
    from andon.errors import SerializationError as SerializationError
    from andon.errors import TaskCancelledError as TaskCancelledError
    from andon.errors import TaskExitError as TaskExitError
    from andon.errors import TaskTimeoutError as TaskTimeoutError
    from andon.errors import WorkerDiedError as WorkerDiedError
    from andon.errors import WrongProcessError as WrongProcessError
    from andon.executor import ProcessPoolExecutor as ProcessPoolExecutor
    from andon.mapping import imap as imap
    from andon.mapping import map as map
    from andon.outcome import Outcome as Outcome
    from andon.outcome import Reason as Reason
    from andon.outcome import ReasonKind as ReasonKind
    from andon.outcome import StoppedBy as StoppedBy
    from andon.outcome import TaskState as TaskState
    from andon.outcome import TraceEvent as TraceEvent
    from andon.outcome import Verdict as Verdict
    from andon.policy import Decision as Decision
    from andon.policy import Policy as Policy
    from andon.policy import Stats as Stats
    from andon.policy import collect_all as collect_all
    from andon.policy import fail_fast as fail_fast
    from andon.pool import Pool as Pool
    from andon.report.progress import Progress as Progress
    from andon.task import check as check
    from andon.task import current_token as current_token
    from andon.task import shield as shield
    from andon.task import sleep as sleep
    from andon.taskgroup import TaskGroup as TaskGroup
    from andon.token import Event as Event
    from andon.token import Token as Token

__version__ = "0.1.0"

_HOMES = {
    "andon._async_result": ("AsyncResult",),
    "andon._cancelled": ("Cancelled",),
    "andon._runtime.futures": ("Future",),
    "andon.context": ("get_context",),
    "andon._worker.frozen": ("freeze_support",),
    "andon.errors": (
        "AndonError",
        "CleanupError",
        "GroupClosedError",
        "GroupTimeoutError",
        "InitializerError",
        "InternalError",
        "PoolBrokenError",
        "PoolClosedError",
        "PoolShutdownError",
        "RemoteTraceback",
        "SerializationError",
        "TaskCancelledError",
        "TaskExitError",
        "TaskTimeoutError",
        "WorkerDiedError",
        "WrongProcessError",
    ),
    "andon.executor": ("ProcessPoolExecutor",),
    "andon.mapping": ("imap", "map"),
    "andon.outcome": (
        "Outcome",
        "Reason",
        "ReasonKind",
        "StoppedBy",
        "TaskState",
        "TraceEvent",
        "Verdict",
    ),
    "andon.policy": ("Decision", "Policy", "Stats", "collect_all", "fail_fast"),
    "andon.report.progress": ("Progress",),
    "andon.pool": ("Pool",),
    "andon.task": ("check", "current_token", "shield", "sleep"),
    "andon.taskgroup": ("TaskGroup",),
    "andon.token": ("Event", "Token"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AndonError",
    "AsyncResult",
    "Cancelled",
    "CleanupError",
    "Decision",
    "Event",
    "Future",
    "GroupClosedError",
    "GroupTimeoutError",
    "InitializerError",
    "InternalError",
    "Outcome",
    "Policy",
    "Pool",
    "PoolBrokenError",
    "PoolClosedError",
    "PoolShutdownError",
    "ProcessPoolExecutor",
    "Progress",
    "Reason",
    "ReasonKind",
    "RemoteTraceback",
    "SerializationError",
    "Stats",
    "StoppedBy",
    "TaskCancelledError",
    "TaskExitError",
    "TaskGroup",
    "TaskState",
    "TaskTimeoutError",
    "Token",
    "TraceEvent",
    "Verdict",
    "WorkerDiedError",
    "WrongProcessError",
    "check",
    "collect_all",
    "current_token",
    "fail_fast",
    "freeze_support",
    "get_context",
    "imap",
    "map",
    "shield",
    "sleep",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "aio":  # a module; only those who ask for it pay for asyncio
        return importlib.import_module("andon.aio")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'andon' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "aio"})
