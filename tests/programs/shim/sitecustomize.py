"""Imported by every Python that starts with this folder on its path: replaces the pools.

`ANDON_PROGRAMS_POOLS` says whose are used, "standard" or "andon"; each pool that is opened is
noted in the file `ANDON_PROGRAMS_OPENED`, so that a program which used another one is found out.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import functools
import multiprocessing
import multiprocessing.context
import multiprocessing.pool
import os
from typing import Any


def noted(cls: Any, whose: str) -> None:
    """Have the class note each of its instances, and its name."""
    original = cls.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with open(os.environ["ANDON_PROGRAMS_OPENED"], "a") as file:
            file.write(f"{whose} {cls.__name__}\n")
        original(self, *args, **kwargs)

    cls.__init__ = init


def replace() -> None:
    import andon

    noted(andon.Pool, "andon")
    noted(andon.ProcessPoolExecutor, "andon")

    def pool(self: Any, *args: Any, **kwargs: Any) -> Any:
        return andon.Pool(*args, context=self.get_context(), **kwargs)

    multiprocessing.context.BaseContext.Pool = pool  # type: ignore[method-assign]
    multiprocessing.Pool = andon.Pool  # type: ignore[assignment,misc]
    multiprocessing.pool.Pool = andon.Pool  # type: ignore[assignment,misc]
    executor: Any = andon.ProcessPoolExecutor
    concurrent.futures.ProcessPoolExecutor = executor
    concurrent.futures.process.ProcessPoolExecutor = executor


whose = os.environ.get("ANDON_PROGRAMS_POOLS")
if whose is not None:
    noted(multiprocessing.pool.Pool, "standard")
    noted(concurrent.futures.process.ProcessPoolExecutor, "standard")
if whose == "andon":
    replace()
