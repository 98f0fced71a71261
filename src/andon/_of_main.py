"""What of `__main__` has come to a worker, by value: the globals that functions use, and the
attributes of classes.

Workers never run `__main__`, but in a worker, too, its functions share one set of globals, and a
class is one class: the parent and the worker's own code both set what is in it. A newer value of
the parent's replaces one that came earlier; but not one that code in this worker has set, nor one
that it has changed in place while the parent's is as it was (which a mark says; see `_stamps`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from andon._words import MP_MAIN

_Came = dict[str, tuple[Any, bytes | None]]  # from the parent, as it came

_came: _Came = {}  # globals

CAME = "__andon_came__"
"""Of a class that has come: its attributes. They refer to it, so it must be it that keeps them."""

inherited: dict[str, Any] = {}
"""In a forked worker: the globals of `__main__` as they were at the fork."""


def inherit() -> dict[str, Any]:
    """In a forked worker, before any code of the user's has run."""
    inherited.update(vars(sys.modules["__main__"]))
    return inherited


def has_globals(fn: FunctionType) -> bool:
    """Are its globals those of `__main__`?"""
    # A child of `multiprocessing` has run it elsewhere, and put a copy there.
    found = fn.__globals__
    return found is vars(sys.modules["__main__"]) or found.get("__name__") == MP_MAIN


def set_function_state(fn: FunctionType, state: Any) -> None:
    """A function of `__main__` arrives, with the globals that it uses."""
    import cloudpickle.cloudpickle

    own, slots, marks = state
    mine = fn.__globals__
    slots["__globals__"] = newer = _newer(mine, slots["__globals__"], marks, _came, inherited)
    cloudpickle.cloudpickle._function_setstate(fn, (own, slots))
    _note(mine, newer, marks, _came)


def set_class_state(cls: type, state: Any) -> None:
    """A class of `__main__` arrives, once more or for the first time."""
    import cloudpickle.cloudpickle

    attributes, slots, marks = state
    registry = {"_abc_impl": attributes.pop("_abc_impl")} if "_abc_impl" in attributes else {}
    mine: Mapping[str, Any] = vars(cls)
    came = mine.get(CAME)
    if came is None:
        came, mine = {}, {}
        type.__setattr__(cls, CAME, came)
    newer = _newer(mine, attributes, marks, came, {})
    cloudpickle.cloudpickle._class_setstate(cls, (newer | registry, slots))
    _note(vars(cls), newer, marks, came)


def _newer(
    mine: Mapping[str, Any],
    arrived: dict[str, Any],
    marks: Mapping[str, bytes],
    came: _Came,
    inherited: Mapping[str, Any],
) -> dict[str, Any]:
    """What of this is to be set."""
    newer = {}
    for name, value in arrived.items():
        if name in mine:
            before, its_mark = came.get(name, (inherited.get(name, came), None))
            if mine[name] is not before or (its_mark and its_mark == marks.get(name)):
                continue
        newer[name] = value
    return newer


def _note(
    mine: Mapping[str, Any], newer: Mapping[str, Any], marks: Mapping[str, bytes], came: _Came
) -> None:
    """These have been set. (A metaclass may have made another thing of one.)"""
    came.update((name, (mine[name], marks.get(name))) for name in newer if name in mine)
