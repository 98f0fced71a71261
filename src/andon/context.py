"""`get_context`: `multiprocessing`'s contexts, whose pools are ours."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from andon.pool import Pool


def get_context(method: str | None = None) -> BaseContext:
    """A context of `multiprocessing`, for code that takes one and makes its pools by it.

    ```python
    train(mp_context=andon.get_context("spawn"))  # does `mp_context.Pool(8)`
    ```

    Its `Pool` is `andon.Pool`; all else, locks, queues and processes, is the standard context's of
    the same start method (`method`; None: the one that is set). Raises ValueError for a method that
    this platform does not have.
    """
    kind: Any = type(multiprocessing.get_context(method))
    context: BaseContext = _made(kind)
    return context


class _Pools:
    """What is different."""

    def Pool(
        self: Any,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Pool:
        """An `andon.Pool` with this context's start method."""
        from andon.pool import Pool  # with all that a pool needs

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self)

    def get_context(self: Any, method: str | None = None) -> BaseContext:
        """Another one of these."""
        same: BaseContext = self
        return same if method is None else get_context(method)


@cache
def _made(kind: type) -> Any:
    return type(f"Andon{kind.__name__}", (_Pools, kind), {"__module__": __name__})()
