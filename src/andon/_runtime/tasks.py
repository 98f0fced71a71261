"""A task as the runtime knows it: who waits for it, and how its outcome is told."""

from __future__ import annotations

import reprlib
from bisect import bisect_right, insort
from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from andon._core.actions import Resolve
from andon._engines.payloads import Death, Halted, Raised, Returned
from andon._engines.port import Call, Frozen
from andon._pickling import loads
from andon._traceback import cause_of
from andon._words import describe, note, short
from andon.errors import TaskCancelledError, TaskExitError, TaskTimeoutError, WorkerDiedError
from andon.outcome import Outcome, Reason, StoppedBy, TaskState

if TYPE_CHECKING:
    from andon._runtime.groups import Group

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlevel = 3
_SHOWN = 120  # characters of a call's arguments in an error's note
_TOLD = 1000  # characters of what is no error, and was raised


class Sink(Protocol):
    """Who is told of a task's outcomes, in the order of its items. Called without any lock."""

    def take(self, task: Task, outcome: Outcome) -> None:
        """One item is over, and has not succeeded."""

    def take_run(self, task: Task, run: Run) -> None:
        """Items are over, and have succeeded."""

    def over(self, task: Task) -> None:
        """All items are."""

    def split(self, task: Task, part: Task) -> None:
        """The rest of a task's items is told of as another's from now on. Under the lock."""

    def broken(self, error: BaseException) -> None:
        """andon itself failed, and no outcome will come."""


class Task:
    """One task: `size` items, the first of which is number `index` of its group."""

    __slots__ = (
        "asked",
        "attempt",
        "call",
        "calls",
        "first",
        "group",
        "id",
        "index",
        "packed",
        "parts",
        "sink",
        "size",
        "timeout",
    )

    def __init__(
        self,
        ident: int,
        group: Group,
        index: int,
        size: int,
        call: Call | None,
        packed: Any,
        timeout: float | None,
    ) -> None:
        self.id = ident
        self.group = group
        self.index = index
        self.size = size
        self.call = call
        self.packed = packed
        self.sink: Sink
        self.timeout = timeout
        self.attempt: int | None = None
        self.first = 0  # item that is its own, and not another part's
        self.calls: list[Call | None] | None = None  # of a bundle, one an item
        self.asked: set[int] = set()  # items that their owner asked to stop, each alone
        self.parts: list[Task] | None = None  # of a bundle, in order: it, and what was split off

    def rest(self, ident: int, first: int) -> Task:
        """The rest of its items, from there on, as a task of its own, for the same sink."""
        part = Task(
            ident, self.group, self.index, self.size, self.call, self.packed, self.timeout
        )
        part.first, part.calls, part.asked = first, self.calls, self.asked
        if self.parts is not None:
            part.parts = self.parts
            insort(self.parts, part, key=_first)
        part.sink = self.sink
        self.sink.split(self, part)
        return part

    def part(self, item: int) -> Task:
        """The part of a bundle that has this item now."""
        if self.parts is None:
            return self
        return self.parts[bisect_right(self.parts, item, key=_first) - 1]

    def cancel(self) -> None:
        """Ask the machine to stop this task alone."""
        self.group.runtime.cancel_task(self)

    def arguments(self, item: int) -> str:
        """The shortened arguments of an item, for notes and outcomes."""
        call = self.call if self.calls is None else self.calls[item]
        if call is None:
            return ""
        name = "?"
        try:
            name = str(getattr(call.fn, "__qualname__", None) or _short.repr(call.fn))
            if call.items is not None:
                value = call.items[item]
                if type(value) is Frozen:
                    value = loads(value.data)
                parts = _starred(value) if call.star else [_short.repr(value)]
            else:
                parts = [_short.repr(v) for v in call.args]
                parts += [f"{k}={_short.repr(v)}" for k, v in call.kwargs.items()]
        except BaseException as exc:  # a user's __repr__: the note must not hide the error
            parts = [f"<unprintable: {type(exc).__name__}>"]
        text = ", ".join(parts)
        if len(text) > _SHOWN:
            text = text[: _SHOWN - 3] + "..."
        return f"{name}({text})"


def _starred(item: Any) -> list[str]:
    try:
        values = list(item)
    except TypeError:  # the very error, maybe: it cannot be unpacked
        return [f"*{_short.repr(item)}"]
    return [_short.repr(value) for value in values]


_first = attrgetter("first")
_NONE: frozenset[int] = frozenset()


class Run:
    """Items that follow each other and have all succeeded: what is the same for all is said once.

    `started_at` is the first one's, `ended_at` the last one's; `size`: bytes of all values."""

    __slots__ = (
        "_asked",
        "cancel_requested",
        "ended_at",
        "index",
        "size",
        "started_at",
        "values",
    )

    def __init__(self, task: Task, resolve: Resolve) -> None:
        returned: Returned = resolve.payload
        self.index = task.index + resolve.index
        self.values = returned.values
        self.cancel_requested = resolve.cancel_requested
        self.started_at = returned.started_at
        self.ended_at = returned.ended_at
        self.size = returned.size
        # As of now: what is asked for later changes nothing.
        asked, first = task.asked, self.index - task.index
        self._asked = (
            {self.index + i for i in range(len(self.values)) if first + i in asked}
            if asked
            else _NONE
        )

    def outcomes(self) -> list[Outcome]:
        """One for each."""
        return [
            Outcome(
                index,
                TaskState.SUCCEEDED,
                value,
                None,
                self.cancel_requested or index in self._asked,
                True,
                StoppedBy.RETURNED,
                self.started_at,
                self.ended_at,
            )
            for index, value in enumerate(self.values, self.index)
        ]


def outcomes_of(task: Task, r: Resolve, reason: Reason | None) -> list[Outcome]:
    """The outcomes that one `Resolve` stands for, where they are no successes."""
    return [_one(task, r, r.index + i, r.payload, reason) for i in range(r.count)]


def _one(task: Task, r: Resolve, item: int, payload: Any, reason: Reason | None) -> Outcome:
    index = task.index + item
    arguments = task.arguments(item)
    where = f"task {index}: {arguments}" if arguments else f"task {index}"
    started_at = getattr(payload, "started_at", None)
    ended_at = getattr(payload, "ended_at", None)
    stack = getattr(payload, "stack", None)
    cleanup = payload.cleanup_error if isinstance(payload, Halted) else None
    error: BaseException
    if r.state is TaskState.FAILED:
        if r.timeout is not None:
            text = f"{where} ran longer than its timeout of {r.timeout:g} s"
            error = TaskTimeoutError(text, timeout=r.timeout)
            place = getattr(payload, "where", None)
            if place is not None:  # else its context shall be shown, if it has any
                error.__cause__ = place
        elif isinstance(payload, Raised):
            error = payload.error
            if not issubclass(type(error), Exception):  # isinstance() would ask the error, too
                cause = error
                error = TaskExitError(f"the task raised {short(cause, _TOLD)}", original=cause)
                error.__cause__ = cause_of(cause)
        else:
            assert isinstance(payload, Death)
            error = WorkerDiedError(
                payload.text, pid=payload.pid, exitcode=payload.exitcode, phase=payload.phase
            )
        if r.timeout is None:
            note(error, where)
        if stack:
            note(error, f"stack of the worker before it was killed:\n{stack}")
        if cleanup is not None:
            note(error, f"while it was stopped, its clean-up raised {describe(cleanup)}")
    else:
        if r.started is False:
            text = f"{where} was cancelled before it started"
        elif r.stopped_by is StoppedBy.KILL:
            text = f"{where} was cancelled; its worker had to be killed"
        else:
            text = f"{where} was cancelled while it ran"
        if reason is not None:
            text += f" ({reason})"
        error = TaskCancelledError(text, reason=reason, started=r.started, stopped_by=r.stopped_by)
    return Outcome(
        index,
        r.state,
        None,
        error,
        r.cancel_requested or item in task.asked,
        r.started,
        r.stopped_by,
        started_at,
        ended_at,
        arguments,
        stack,
        cleanup,
    )


def note_also(error: BaseException, others: Iterable[BaseException]) -> None:
    """These are not raised: this one is, in their place."""
    for each in others:
        if each is not error:
            note(error, f"also raised: {describe(each)}")
