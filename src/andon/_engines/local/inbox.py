"""Answers of workers into events. Runs user code (unpickling): never under the engine's lock.

Values that follow each other within one attempt become one event. Whatever cannot be unpickled
fails its own item, and nothing else (S28).
"""

from __future__ import annotations

import builtins
import pickle
import sys
from functools import partial
from typing import Any

from andon import _wire
from andon._board import tray
from andon._buffers.parcel import loads
from andon._core.events import AttemptEnded, Event, Failed, Stopped, Succeeded
from andon._engines.local.frames import Frame
from andon._engines.payloads import Halted, Raised, Returned
from andon._gate import gate
from andon._plain import is_within
from andon._traceback import set_cause, show
from andon._words import BARE, as_text, describe
from andon.errors import RemoteTraceback, SerializationError, also
from andon.outcome import StoppedBy


def decode(raw: list[Frame | Event]) -> list[Event]:
    """In order; what is an event already is passed through, or told with the one before it."""
    events: list[Event] = []
    run: Succeeded | None = None  # of values, still growing
    for entry in raw:
        if not isinstance(entry, tuple):
            run = None
            if type(entry) is not AttemptEnded or not _ends(events, entry.attempt):
                events.append(entry)
            continue
        kind, _, attempt, meta, body = entry
        if kind == _wire.VALUE:
            index, started_at, ended_at, size = meta
            try:
                value = _loads(body)
            except BaseException as error:
                run = None
                failure = _unpicklable(error, "the result", "the result")
                events.append(Failed(attempt, index, Raised(failure, started_at, ended_at)))
                continue
            if run is not None and run.attempt == attempt and run.index + run.count == index:
                run.count += 1
                run.payload.values.append(value)
                run.payload.ended_at = ended_at
                run.payload.size += size
            else:
                run = Succeeded(attempt, index, Returned([value], started_at, ended_at, size))
                events.append(run)
            del value
            continue
        run = None
        if kind == _wire.VALUES:
            index, started_at, ended_at, count, lane, *known = meta
            values = tray.values(lane, count, body)
            if known:  # of those that were found in the tray
                del values[: known[0]]
                index, count = index + known[0], count - known[0]
            returned = Returned(values, started_at, ended_at, len(body))
            if lane == tray.PICKLED:
                events += _unpickled(attempt, index, returned)
            else:
                events.append(Succeeded(attempt, index, returned, count))
        elif kind == _wire.FAILURE:
            events.append(_failed(attempt, meta, body))
        elif kind == _wire.STOPPED:
            events.append(_stopped(attempt, meta, body))
    return events


def _ends(events: list[Event], attempt: int) -> bool:
    """Are values of that attempt the last that is told so far? Then they say that it has ended."""
    if events and type(last := events[-1]) is Succeeded and last.attempt == attempt:
        last.last = True
        return True
    return False


def _unpickled(attempt: int, index: int, returned: Returned) -> list[Event]:
    """Values some of which are pickles still. One that cannot be unpickled fails its own item, and
    parts those before it from those behind it."""
    events: list[Event] = []
    values, started_at, ended_at = returned.values, returned.started_at, returned.ended_at
    size = returned.size // len(values)
    begin = 0

    def tell(end: int) -> None:
        if begin < end:
            part = Returned(values[begin:end], started_at, ended_at, size * (end - begin))
            events.append(Succeeded(attempt, index + begin, part, end - begin))

    while begin < len(values):
        at, error = _unpickle(values, begin)
        tell(at)
        begin = at + 1
        if error is not None:
            failure = _unpicklable(error, "the result", "the result")
            events.append(Failed(attempt, index + at, Raised(failure, started_at, ended_at)))
    return events


def _unpickle(values: list[Any], begin: int) -> tuple[int, BaseException | None]:
    """In their places; where one could not be, with the error, or else behind the last."""
    at, before = begin, gate.user
    try:
        try:
            gate.user = before or gate.on_main()  # as in `_loads`
            for at in range(begin, len(values)):
                value = values[at]
                if type(value) is tuple and is_within(value):
                    values[at] = pickle.loads(value[1])
        finally:
            gate.user = before
    except BaseException as error:
        return at, error
    return len(values), None


def _failed(attempt: int, meta: Any, body: Any) -> Failed:
    index, started_at, ended_at, stage, kind, message, story = meta
    error: BaseException
    if stage == _wire.STAGE_BARE:
        error = BARE[kind](message)
    elif stage == _wire.STAGE_CALL:
        error = _exception(body, as_text(kind, message))
    elif stage == _wire.STAGE_EXCEPTION:
        message, why = message
        told = as_text(kind, message)
        error = SerializationError(
            f"the task raised {told}; that exception could not be pickled in the worker: {why}",
            what="the exception",
            where="worker",
            original=told,
        )
        error = _encoding(error, "it could not be pickled", told)
    elif stage == _wire.STAGE_RESULT:
        message, why, value = message
        told = as_text(kind, why)
        error = SerializationError(message, what="the result", where="worker", original=told)
        error = _encoding(error, told, value, _known(kind))
    else:
        told = as_text(kind, message)
        what = "the function" if stage == _wire.STAGE_FUNCTION else "the arguments"
        error = SerializationError(
            f"cannot unpickle {what} in the worker: {told}",
            what=what,
            where="worker",
            original=told,
        )
    set_cause(error, RemoteTraceback(partial(show, story)))
    return Failed(attempt, index, Raised(error, started_at, ended_at), started_at is not None)


def _encoding(
    error: SerializationError, why: str, value: str, *kinds: type[BaseException]
) -> SerializationError:
    """As the standard pools raise it: `multiprocessing.Pool` a MaybeEncodingError, with these two
    fields; the executor the error of the pickling."""
    pool: Any = sys.modules.get("multiprocessing.pool")  # whoever catches it has loaded it
    if pool is not None:
        error.exc, error.value = why, value  # type: ignore[attr-defined]
        kinds = (pool.MaybeEncodingError, *kinds)
    return also(error, *kinds)


def _known(name: str) -> type[BaseException]:
    """The type of that name, where it is one that every process knows."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind
    return pickle.PicklingError if name == "_pickle.PicklingError" else SerializationError


def _exception(body: Any, told: str) -> BaseException:
    try:
        error = _loads(body)
        if not isinstance(error, BaseException):
            raise TypeError(f"its pickle gives a {type(error).__qualname__}, not an exception")
        return error
    except BaseException as worse:
        return _unpicklable(worse, "the exception", f"the exception that the task raised ({told})")


def _stopped(attempt: int, meta: Any, body: Any) -> Stopped:
    index, started_at, ended_at, by, text, story = meta
    cleanup: BaseException | None = None
    if text is not None:
        told = text.rstrip().rpartition("\n")[2]
        if body is not None and len(body):
            cleanup = _exception(body, told)
        else:
            cleanup = SerializationError(
                f"the clean-up of the task raised an exception that could not be pickled: {told}",
                what="the exception",
                where="worker",
                original=told,
            )
        set_cause(cleanup, RemoteTraceback(text))
    started = started_at is not None
    where = None if story is None else RemoteTraceback(partial(show, story))
    payload = Halted(cleanup, started_at, ended_at, where=where)
    return Stopped(attempt, index, StoppedBy(by), started, payload)


def _loads(body: Any) -> Any:
    if body is None:
        raise MemoryError("no memory for the bytes of it")
    if not gate.on_main():
        return loads(body)
    before, gate.user = gate.user, True  # a second Ctrl-C ends it (S32)
    try:
        return loads(body)
    finally:
        gate.user = before  # in a worker, a task's own pool may be closing


def _unpicklable(error: BaseException, what: str, named: str) -> SerializationError:
    original = describe(error)
    failure = SerializationError(
        f"cannot unpickle {named} in the parent: {original}",
        what=what,
        where="parent",
        original=original,
    )
    failure.__cause__ = error
    return failure
