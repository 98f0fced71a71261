"""Context variables across processes: which one of there is this one of here?

`ContextVar`s cannot be pickled. One that is a global of a module, or an attribute of a class there,
goes by its place, and is whatever stands there on the other side. Any other (of a notebook or a
script, whose `__main__` workers never run; of a closure) goes by a number: the other side makes one
for it, once. Values are another matter: see `_worker/context.py`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import Context
from contextvars import ContextVar as ContextVar
from typing import Any

from andon._words import MP_MAIN

_of_class = type.__getattribute__

Place = tuple[str, str]  # module, path of names within it
Number = tuple[int, int]  # process, identity there

_numbered: dict[Number, ContextVar[Any]] = {}
_known: dict[int, tuple[ContextVar[Any], tuple[Callable[..., Any], tuple[Any, ...]]]] = {}


def reduce(var: ContextVar[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How it travels, as `__reduce__` would say. Looked up once for each."""
    known = _known.get(id(var))
    if known is not None:
        return known[1]
    place = _place(var)
    if place is not None and place[0] != "__main__":
        reduced: tuple[Callable[..., Any], tuple[Any, ...]] = at_place, place
    else:
        number = next((n for n, v in _numbered.items() if v is var), (os.getpid(), id(var)))
        _numbered[number] = var
        reduced = by_number, (number, var.name, _default(var), place[1] if place else None)
    _known[id(var)] = var, reduced  # kept, or another may come to have its number
    return reduced


def at_place(module: str, path: str) -> ContextVar[Any]:
    """The other end of a journey by place."""
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    if type(found) is not ContextVar:
        raise TypeError(f"{module}.{path} is no context variable here, but {found!r}")
    return found


def by_number(
    number: Number, name: str, default: tuple[Any, ...], in_main: str | None
) -> ContextVar[Any]:
    """The other end of a journey by number."""
    var = _numbered.get(number)
    if var is None:
        if in_main is not None:  # a forked worker has inherited `__main__`
            inherited: Any = sys.modules["__main__"]
            for part in in_main.split("."):
                inherited = getattr(inherited, part, None)
            var = inherited if type(inherited) is ContextVar else None
        if var is None:
            var = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _numbered[number] = var
    return var


def _default(var: ContextVar[Any]) -> tuple[Any, ...]:
    try:
        return (Context().run(var.get),)
    except LookupError:
        return ()


def _place(var: ContextVar[Any]) -> Place | None:
    main = None
    for module, path, found in _globals(var.name):
        if found is var:
            if module != "__main__":
                return module, path
            main = module, path
    return main


def _globals(likely: str) -> Iterator[tuple[str, str, Any]]:
    modules = [(name, dict(vars(module))) for name, module in list(sys.modules.items())
               if isinstance(getattr(module, "__dict__", None), dict)
               and name != MP_MAIN]  # another name of `__main__`, and in no worker
    for module, names in modules:
        if likely in names:
            yield module, likely, names[likely]
    for module, names in modules:
        for name, value in names.items():
            yield module, name, value
            # As they are, whatever a metaclass answers.
            if isinstance(value, type) and _of_class(value, "__module__") == module:
                for inner, attribute in list(_of_class(value, "__dict__").items()):
                    yield module, f"{name}.{inner}", attribute
