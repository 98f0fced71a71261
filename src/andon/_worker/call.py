"""One careful call of user code, and what became of it.

Invariants:
 1. User code of a task runs only inside `careful_call`; only there is `gate.user` True.
 2. An interrupt that comes after the call changes nothing of what the task itself did: a value
    that was returned, or an error that was raised, stands (S33, S34). One that comes while a
    function written in C runs is raised as it returns, and its value is lost.
 3. A stop is told from a failure by the mark on the running task's own `Cancelled` (S16), found
    as the error itself, inside an exception group, or in its chain of contexts (S52).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, TracebackType
from typing import Any

from andon._gate import gate
from andon._plain import SCALARS
from andon._traceback import Story, cause_of, context_of, members_of, tell, tell_frames, trace_of
from andon._worker.state import current

_NO_VALUE: Any = object()
_Cached: Any = type(lru_cache(str))
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_LIBRARY = f"{_PACKAGE}_"
_TOLD_TO_STOP = "andon.Cancelled: this task was told to stop\n"
_CHAIN = 1000  # links of an exception's chain that are looked at


Halt = tuple[str, BaseException | None]
"""The call was stopped: on which rung, and what went wrong while it unwound."""


def careful_call(fn: Callable[..., Any], args: Any, kwargs: Any) -> list[Any]:
    """`fn(*args, **kwargs)`, open to interrupts while it runs, and at no other moment.

    Answers [value, None] or [None, error]: a list, so that the caller can empty it, and let go of
    both before it tells that the call is over.
    """
    gate.depth = 0  # whatever an earlier task has done to it
    gate.deferred = None
    value = _NO_VALUE
    error: BaseException | None = None
    try:
        try:
            gate.user = True
            value = fn(*args, **kwargs)
            gate.user = False
        except BaseException as exc:
            gate.user = False
            error = exc
    except BaseException as late:
        # Only an interrupt can get here, between two of the lines above; it was too late.
        gate.user = False
        if error is None and value is _NO_VALUE:
            error = late
    gate.deferred = None
    return [value, None] if error is None else [None, error]


def stays(fn: Any) -> bool:
    """May all tasks of a worker have this very object? Functions (as in a module, where they share
    its globals), classes, and caches; not what a call might change."""
    if isinstance(fn, partial):
        given = (*fn.args, *fn.keywords.values())
        return stays(fn.func) and SCALARS.issuperset(map(type, given)) and not vars(fn)
    if isinstance(fn, BuiltinFunctionType | MethodType):
        return isinstance(fn.__self__, ModuleType | type)
    return isinstance(fn, FunctionType | type | _Cached)


def find_halt(error: BaseException) -> Halt | None:
    """Whether this is a stop of the running task and not a failure of it."""
    mark = current.mark_of(error)
    if mark is not None:
        return mark, None
    members = members_of(error)
    if not members and cause_of(error) is None and context_of(error) is None:
        return None  # as most are
    mark = _mark_within(error)
    if mark is None:
        return None
    if members:
        group: Any = error
        try:
            rest = group.split(lambda exc: current.mark_of(exc) is not None)[1]
        except BaseException:  # a group class of the user's own, whose derive() fails
            return mark, error
        return mark, rest
    return mark, error


def _mark_within(error: BaseException) -> str | None:
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left and len(seen) < _CHAIN:
        exc = left.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        mark = current.mark_of(exc)
        if mark is not None:
            return mark
        left += (cause_of(exc), context_of(exc), *members_of(exc))
    return None


def tell_error(error: BaseException, text: str | None = None, *, pickling: bool = False) -> Story:
    """Its traceback, from the user's own first frame on; `text`: what `describe` made of it.
    `pickling`: it may come from cloudpickle as well."""
    skip: tuple[str, ...] = (_LIBRARY,)
    if pickling and (module := sys.modules.get("cloudpickle")) is not None:
        skip += (os.path.join(os.path.dirname(module.__file__ or "?"), ""),)
    return tell(error, skip, text)


def tell_place(error: BaseException) -> Story | None:
    """Where in the user's code a stop was felt, as the innermost frames of it, without ours below
    them; None where it was in no line of it, or the parent could not show it. Runs no code of the
    user's: the kill is near."""
    found: list[TracebackType] = []
    tb, end = trace_of(error), 0
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if found or not name.startswith(_LIBRARY):
            found.append(tb)
        if not name.startswith(_PACKAGE):
            end = len(found)
        tb = tb.tb_next
    return tell_frames(found[:end], _TOLD_TO_STOP) if end else None


def drop_traces(error: BaseException) -> None:
    """Let go of the frames, and thus of the task's locals, that an error holds."""
    exc: BaseException | None = error
    for _ in range(_CHAIN):
        if exc is None:
            return
        BaseException.with_traceback(exc, None)  # not by a __setattr__ of the user's
        exc = context_of(exc)


def flush_streams() -> None:
    """What the task has printed goes out; streams that it closed or broke are passed over."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
