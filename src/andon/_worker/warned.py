"""Warnings of user code in a worker: shown by the parent, once a place and not once a worker.

A worker has the parent's filters, and tells what they let through; the parent asks its filters
again (see `_runtime/listener.py`). What is an error there is one here, in the task.
"""

from __future__ import annotations

import marshal
import sys
import warnings
from types import FrameType
from typing import TYPE_CHECKING, Any

from andon import _wire
from andon._gate import gate

if TYPE_CHECKING:
    from andon._worker.relay import Relay

Told = tuple[str, tuple[tuple[str, str], ...], str, int, str | None]
"""A warning on its way: text, its class and the bases of it, file name, line, module."""


def filters() -> list[tuple[Any, ...]]:
    """The filters of this process, in built-in types."""
    return [
        (action, _pattern(text), _name(category), _pattern(module), line)
        for action, text, categories, module, line in list(warnings.filters)
        for category in (categories if isinstance(categories, tuple) else (categories,))
    ]


def _pattern(pattern: Any) -> Any:
    """None, a plain string, or (expression, flags)."""
    return pattern if pattern is None or isinstance(pattern, str) else (
        pattern.pattern, pattern.flags
    )


def _name(category: type) -> tuple[str, str]:
    return category.__module__, category.__qualname__


def install(relay: Relay, wanted: Any) -> None:
    """In a new worker: have those filters, and send home what is to be shown."""
    if wanted and wanted != filters():
        warnings.resetwarnings()
        for action, text, name, module, line in wanted:
            category = loaded_category(name) or _awaited(name)
            entry = (action, _compiled(text), category, _compiled(module), line)
            warnings.filters.append(entry)  # type: ignore[attr-defined]
    before = warnings.showwarning

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None or not relay.is_ours():
            before(message, category, filename, lineno, file, line)
            return
        relay.make_room()
        module = _module_at(sys._getframe(1), filename, lineno)
        text = str(message)
        with gate:
            told: Told = (
                str.__str__(text),
                tuple(_name(c) for c in category.__mro__ if issubclass(c, Warning)),
                str(filename),
                int(lineno),
                module,
            )
            relay.send(_wire.WARNING, marshal.dumps(told))

    warnings.showwarning = showwarning


class _Named(type):
    """Of a class in the place of one by its name, which is loaded later, or comes with a task of
    the script, if at all: for filters, which ask whether a warning's class is a subclass of it."""

    def __subclasscheck__(cls, other: type) -> bool:
        name = _name(cls)
        return any(_name(each) == name for each in other.__mro__)


def _awaited(name: tuple[str, str]) -> type[Warning]:
    module, qualname = name
    named: Any = _Named(qualname, (Warning,), {"__module__": module, "__qualname__": qualname})
    return named  # type: ignore[no-any-return]


def loaded_category(name: tuple[str, str]) -> type[Warning] | None:
    """The class of that name, where its module is loaded here."""
    found: Any = sys.modules.get(name[0])
    for part in name[1].split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None


def _compiled(pattern: Any) -> Any:
    if pattern is None or isinstance(pattern, str):
        return pattern
    import re

    return re.compile(*pattern)


def _module_at(frame: FrameType | None, filename: str, lineno: int) -> str | None:
    """The name of the module in which the warning arose: filters ask for it."""
    while frame is not None:
        if frame.f_lineno == lineno and frame.f_code.co_filename == filename:
            name = frame.f_globals.get("__name__")
            return name if type(name) is str else None
        frame = frame.f_back
    return None
