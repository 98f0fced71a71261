"""A call that runs with the context variables of whoever submitted it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar, copy_context
from typing import Any

from andon._variables import reduce

Pairs = list[tuple[ContextVar[Any], Any]]


class InContext:
    """`fn`, with these variables set to these values while it runs: in a copy of the context that
    is there, so nothing is left for the next call."""

    def __init__(self, fn: Callable[..., Any], context: Pairs) -> None:
        self.fn = fn
        self.context = context
        self.__qualname__: str = getattr(fn, "__qualname__", None) or repr(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        here = copy_context()
        for var, value in self.context:
            here.run(var.set, value)
        return here.run(self.fn, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.fn, [(*reduce(var), value) for var, value in self.context])


def rebuild(fn: Callable[..., Any], context: list[tuple[Any, Any, Any]]) -> InContext:
    """The other end of its journey."""
    return InContext(fn, [(find(*place), value) for find, place, value in context])


def in_context(
    fn: Callable[..., Any], variables: Iterable[ContextVar[Any]]
) -> Callable[..., Any]:
    """`fn` with the values that these variables have here and now; one that has none is left."""
    if type(fn) is InContext:
        return fn
    here = copy_context()
    return InContext(fn, [(var, here[var]) for var in variables if var in here])
