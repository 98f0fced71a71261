"""Every error that andon raises.

    BaseException
    └── Cancelled                        a stop, on its way through a task or a body

    Exception
    └── AndonError                       catch this for all of the below
        ├── TaskCancelledError           result() of a task that a stop ended (is a CancelledError)
        ├── TaskTimeoutError             a task ran longer than its timeout (is a TimeoutError)
        ├── GroupTimeoutError            a group's deadline passed (is a TimeoutError)
        ├── TaskExitError                the task raised SystemExit, KeyboardInterrupt or their like
        ├── SerializationError           an argument, result or exception could not travel
        ├── WorkerDiedError              a worker died under a task, not by our order
        ├── PoolBrokenError              workers die again and again: the pool gave up
        │   └── InitializerError         the initializer raised
        ├── PoolClosedError              the pool takes no more work (ValueError and RuntimeError)
        │   └── PoolShutdownError        a group was stopped because its pool was shut down
        ├── GroupClosedError             the group is over (RuntimeError)
        ├── WrongProcessError            a pool or group used in a forked child (RuntimeError)
        ├── CleanupError                 a process could not be reaped in time
        └── InternalError                a bug in andon; carries the story of the task

What code for the standard pools catches, it catches here: `WorkerDiedError` and `PoolBrokenError`
derive from `concurrent.futures.process.BrokenProcessPool` (a `BrokenExecutor`),
`TaskCancelledError` from `concurrent.futures.CancelledError`, `SerializationError` from
`pickle.PicklingError`, and where there is one from the error that the pickling raised; that of a
result, where `multiprocessing.pool` is in use, from its `MaybeEncodingError`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures import CancelledError as _CancelledError
from functools import lru_cache
from pickle import PicklingError
from typing import Any

from andon._cancelled import Cancelled
from andon.outcome import Reason, StoppedBy

__all__ = [
    "AndonError",
    "Cancelled",
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
]


class AndonError(Exception):
    """Base of all errors that andon raises itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only fields would otherwise be lost, or break the unpickling.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


class RemoteTraceback(Exception):
    """The traceback of an error in a worker, as text; the `__cause__` of that error.

    `text` may be given as a function that makes it: called once, when first asked for.
    """

    def __init__(self, text: str | Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    @property
    def text(self) -> str:
        """As the worker would have printed it."""
        if not isinstance(self._text, str):
            self._text = self._text()
        return self._text

    @property
    def tb(self) -> str:
        """The same, by the standard pools' name."""
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTraceback, (self.text,)

    def __repr__(self) -> str:
        return f"RemoteTraceback({self.text.rstrip().rpartition(chr(10))[2]!r})"

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class TaskCancelledError(AndonError, _CancelledError):
    """The task was stopped, or never started; fields say how (S44).

    `reason` is the group's reason or None for a lone `future.cancel()`; `started` is None
    where nobody can know; `stopped_by` names the rung of the ladder.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        started: bool | None = None,
        stopped_by: StoppedBy | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.started = started
        self.stopped_by = stopped_by


class TaskTimeoutError(AndonError, TimeoutError):
    """A task ran longer than its `timeout` seconds and was stopped (S29).

    Its `__cause__` tells at which line of the task that was, where the task unwound without an
    error of its own and nothing else stopped the group by then; else there is none. Of a task that
    had to be killed a note has the stack.
    """

    def __init__(self, message: str, *, timeout: float) -> None:
        super().__init__(message)
        self.timeout = timeout


class TaskExitError(AndonError):
    """The task raised a BaseException such as SystemExit; `original` is that exception (S24).
    Or its group's policy did.

    It is wrapped so that neither can ever end, or look like it ends, the parent's program.
    """

    def __init__(self, message: str, *, original: BaseException) -> None:
        super().__init__(message)
        self.original = original


class GroupTimeoutError(AndonError, TimeoutError):
    """The group's deadline passed; unfinished tasks were stopped (S30)."""

    def __init__(self, message: str, *, unfinished: int) -> None:
        super().__init__(message)
        self.unfinished = unfinished


class SerializationError(AndonError, PicklingError):
    """Something could not be pickled or unpickled (S28).

    `what` names it ("the arguments", "the result", "the exception"), `where` the side
    ("worker", "parent"); `original` is the text of the error underneath.
    """

    def __init__(
        self, message: str, *, what: str = "", where: str = "", original: str = ""
    ) -> None:
        super().__init__(message)
        self.what = what
        self.where = where
        self.original = original


def also(error: SerializationError, *kinds: type[BaseException]) -> SerializationError:
    """The same error as an instance of `kinds` too, which the standard pools raise there: code that
    catches those goes on to catch it. Kinds that cannot be had are left out, the last ones first.
    """
    more = tuple(k for k in kinds if issubclass(k, Exception) and not isinstance(error, k))
    while more:
        try:
            return _rebuild_both(more, error.args, vars(error))
        except Exception:  # a class of the user's, with a metaclass or a `__new__` of its own
            more = more[:-1]
    return error


def plain(error: SerializationError) -> SerializationError:
    """The same error as nothing else."""
    return SerializationError(
        str(error), what=error.what, where=error.where, original=error.original
    )


@lru_cache(maxsize=64)
def _both(more: tuple[type[Exception], ...]) -> type[SerializationError]:
    """The class; it is built, named, shown and pickled as a SerializationError."""
    names: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": SerializationError.__doc__,
        "__init__": SerializationError.__init__,
        "__str__": BaseException.__str__,
        "__repr__": BaseException.__repr__,
        "__reduce__": lambda self: (_rebuild_both, (more, self.args, self.__dict__.copy())),
    }
    return type("SerializationError", (SerializationError, *more), names)


def _rebuild_both(
    more: tuple[type[Exception], ...], args: tuple[Any, ...], fields: dict[str, Any]
) -> SerializationError:
    error = _rebuild(_both(more), args, fields)
    assert isinstance(error, SerializationError)
    return error


class _Broken(AndonError, BrokenExecutor):
    """Derives from `BrokenProcessPool` once there is one of these to catch: importing its module
    takes longer than all of this package does, and nobody needs it before."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Broken:
        if _Broken.__bases__[1] is BrokenExecutor:
            try:
                from concurrent.futures.process import BrokenProcessPool
            except Exception:  # it registers itself for the exit: too late for that, or no such
                pass  # module on this platform
            else:
                _Broken.__bases__ = (AndonError, BrokenProcessPool)
        return super().__new__(cls, *args, **kwargs)


class WorkerDiedError(_Broken):
    """A worker died under this task, and andon had not ordered it (S25).

    `pid` is the worker's, `exitcode` its exit status (negative: the signal's number; None:
    unknown), `phase` what it was doing.
    """

    def __init__(
        self, message: str, *, pid: int | None = None, exitcode: int | None = None, phase: str = ""
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.phase = phase


class PoolBrokenError(_Broken):
    """Workers died or failed to start again and again; the pool gave up (S42)."""


class InitializerError(PoolBrokenError):
    """The pool's initializer raised in a worker (S42): `original`, as text; `__cause__` has its
    traceback."""

    def __init__(self, message: str, *, original: str = "") -> None:
        super().__init__(message)
        self.original = original


class PoolClosedError(AndonError, RuntimeError, ValueError):
    """The pool has been closed and takes no more work."""


class PoolShutdownError(PoolClosedError):
    """The group was stopped because its pool was shut down while it ran."""


class GroupClosedError(AndonError, RuntimeError):
    """The group is over; open a new one (S14)."""


class WrongProcessError(AndonError, RuntimeError):
    """A pool or group was used in a process that did not open it (S38)."""


class CleanupError(AndonError):
    """Processes could not be reaped in time; `pids` names them (S21)."""

    def __init__(self, message: str, *, pids: tuple[int, ...]) -> None:
        super().__init__(message)
        self.pids = pids


class InternalError(AndonError):
    """A transition that the machine's table does not have: a bug in andon (S2)."""

    def __init__(self, message: str, *, story: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.story = story


def anew(error: AndonError) -> AndonError:
    """The same error for another who is told of it: traceback, notes and context are its own."""
    fields = {name: value for name, value in vars(error).items() if name != "__notes__"}
    copy = _rebuild(type(error), error.args, fields)
    copy.__cause__ = error.__cause__
    return copy


def _rebuild(kind: type[AndonError], args: tuple[Any, ...], fields: dict[str, Any]) -> AndonError:
    exc = kind.__new__(kind, *args)
    exc.args = args
    exc.__dict__.update(fields)
    return exc
