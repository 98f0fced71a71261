"""What user code in the workers has said beside its results, told here: log records to the
program's handlers, warnings to its filters.

    driver ── Told, a notice among the others ──▶ listener's thread ── handlers
                                                   └─ then delivers what has waited behind it

Invariants:
 1. A task's records are handled before its outcome is told: while one is, the notices wait.
 2. Handlers are user code and may be slow: they have a thread of their own. The driver goes on
    meanwhile; ladders climb. What may pile up here is bounded in the workers (`_worker/relay.py`).
 3. Nothing that goes wrong here is a task's affair.
"""

from __future__ import annotations

import logging
import marshal
import os
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from andon import _wire
from andon._complaint import complain
from andon._engines.payloads import Told
from andon._pickling import loads
from andon._runtime.callbacks import CallbackThread
from andon._runtime.tasks import Task
from andon._worker.records import Travelling
from andon._worker.warned import Told as ToldWarning
from andon._worker.warned import loaded_category

_PAUSE_WITHIN = 1.0  # seconds

# By file, as modules have them: so a place warns once, however many workers come by.
_registries: dict[str, dict[Any, Any]] = {}


class Listener:
    """One pool's. `busy`: notices have to wait; `go_on` delivers them then."""

    def __init__(self, name: str, go_on: Callable[[], None]) -> None:
        self.busy = False
        self._go_on = go_on
        self._thread = CallbackThread(f"{name}-listener")
        self._handling = threading.Lock()

    def take(self, told: Told, task: Task | None) -> None:
        """A notice: have this dealt with."""
        if self._thread.is_current():
            self._handle(told, task)  # it is what delivers now
            return
        self.busy = True
        if not self._thread.put(partial(self._handle_and_go_on, told, task)):
            self.busy = False
            self._handle(told, task)

    def is_current(self) -> bool:
        """Is the calling thread the one that runs handlers?"""
        return self._thread.is_current()

    def pause(self) -> bool:
        """Wait, not for long, until no handler runs, and let none begin: for a fork, which should
        find no lock of theirs taken. False where one takes its time."""
        return not self.is_current() and self._handling.acquire(timeout=_PAUSE_WITHIN)

    def resume(self) -> None:
        """After a `pause` that was granted."""
        self._handling.release()

    def close(self, within: float) -> None:
        """Deal with what is left, up to `within` seconds."""
        self._thread.close(within)

    def _handle_and_go_on(self, told: Told, task: Task | None) -> None:
        try:
            self._handle(told, task)
        finally:
            self.busy = False
            self._go_on()

    def _handle(self, told: Told, task: Task | None) -> None:
        try:
            with self._handling:
                (_log_record if told.kind == _wire.RECORD else _warn)(told, task)
        except BaseException:  # a handler's SystemExit must not end its thread
            complain("what a worker has logged could not be told")
        finally:
            told.heard()


def _log_record(told: Told, task: Task | None) -> None:
    travelled: Travelling = marshal.loads(told.body)
    fields, others = travelled
    if others:
        try:
            fields.update(loads(others))
        except Exception as error:
            fields["msg"] += f" [its extra attributes cannot be unpickled: {error!r}]"
    record = logging.makeLogRecord(fields)
    record.levelname = logging.getLevelName(record.levelno)
    if not hasattr(record, "andon_task"):  # it may come from a pool within a task of ours
        record.andon_task = None if task is None else task.index + told.index
        record.andon_group = None if task is None else task.group.id
    # Levels are those of the worker, which has ours, and where its own code set others, means them.
    logging.getLogger(record.name).handle(record)


def _warn(told: Told, task: Task | None) -> None:
    travelled: ToldWarning = marshal.loads(told.body)
    text, names, filename, line, module = travelled
    warning = _made(text, names)
    # One that no code of a module gave, as the compiler: the interpreter goes by the file's name.
    place: dict[str, Any] = {} if module is None else {"module": module}
    registry = _registries.setdefault(filename, {})
    try:
        warnings.warn_explicit(warning, type(warning), filename, line, registry=registry, **place)
    except Warning as error:  # an error here, and was none there
        warnings.showwarning(error, type(error), filename, line)


def _made(text: str, names: Iterable[tuple[str, str]]) -> Warning:
    """A warning that says this, of the first of these classes that can be made say it."""
    for name in names:
        category = loaded_category(name)
        for make in () if category is None else (category, partial(category.__new__, category)):
            with suppress(BaseException):  # its `__init__` may want more than the text
                warning = make(text)
                if isinstance(warning, Warning) and str(warning) == text:
                    return warning
        if category is not None:
            with suppress(BaseException):  # its `__str__` says more than its text
                kind = _telling(category)
                told: Warning = kind.__new__(kind, text)
                return told
    return UserWarning(text)


class _Telling:
    """First base of a warning's class: it says the text that it is made of. What the other base
    does with its subclasses is not done."""

    def __new__(cls, text: str) -> Any:
        told: Any = super().__new__(cls, text)  # type: ignore[call-arg]
        told.__text = text
        return told

    def __init_subclass__(cls) -> None:
        pass

    def __str__(self) -> str:
        text: str = self.__text  # type: ignore[attr-defined]
        return text


def _telling(category: type[Warning]) -> Any:
    """The subclass of it that does: the same one, as long as a registry goes by it."""
    for known in type.__subclasses__(category):
        if known.__bases__[0] is _Telling:
            return known
    names = {"__module__": category.__module__, "__qualname__": category.__qualname__}
    return type.__new__(type(category), category.__name__, (_Telling, category), names)


if hasattr(os, "register_at_fork"):
    # A child's own workers, and it itself, warn anew.
    os.register_at_fork(after_in_child=_registries.clear)
