"""Arguments of the facades: checked in one place, before any process starts."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from andon._engines.cpus import cpu_count
from andon._engines.local.engine import LocalEngine
from andon._engines.local.interpreter import check_interpreter
from andon._engines.port import Config, Engine
from andon._runtime import registry
from andon._runtime.runtime import Runtime
from andon._runtime.surroundings import check_env
from andon.policy import Policy, fail_fast

GRACE = 5.0
KILL_AFTER = 2.0
_OF_A_POLICY = ("failures_only", "first_failure_decides", "raises")
_COUNTS = ("workers", "max_workers", "processes")
_NO_PLAIN = 0x20 | 0x80 | 0x200  # flags of code: generators, coroutines, asynchronous generators
_METHODS = ("fork", "forkserver", "spawn") if sys.platform == "linux" else ("spawn",)


def same(name: str, value: Any, other: str, other_value: Any) -> Any:
    """The value of an argument that goes by two names: ours, and the standard library's."""
    if value is not None and other_value is not None:
        raise ValueError(f"{name} and {other} mean the same: give one of them")
    return other_value if value is None else value


def positive_int(name: str, value: Any, *, none: bool = True) -> int | None:
    """`value` if it is a whole number of at least 1."""
    if value is None and none:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    number = value.__index__()
    if number < 1:
        hint = " (leave it out for one worker per usable CPU)" if name in _COUNTS else ""
        raise ValueError(f"{name} must be greater than 0, not {value!r}{hint}")
    return int(number)


def is_iterable(value: Any) -> bool:
    """Can it be iterated over? Not tried: that may run code of its own."""
    kind = type(value)
    return getattr(kind, "__iter__", None) is not None or hasattr(kind, "__getitem__")


def tuple_of(name: str, value: Any, *, text: bool) -> tuple[Any, ...]:
    """`value` as positional arguments: any iterable, and `text` where that may be one. (Elsewhere
    a comma was forgotten.)"""
    if not is_iterable(value) or (not text and isinstance(value, str | bytes)):
        raise TypeError(f"{name} must be a tuple of arguments, not {value!r}; for one, (value,)")
    return tuple(value)


def check_callback(name: str, value: Any) -> None:
    """Refuse now what could not be called then; `multiprocessing` takes what is false for none."""
    if value and not callable(value):
        raise TypeError(f"{name} must be a function of one argument, not {value!r}")


def seconds(name: str, value: Any, *, none: bool = True, zero: bool = True) -> float | None:
    """`value` as seconds: a finite number that is not negative."""
    if value is None and none:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if math.isnan(value) or math.isinf(value) or value < 0 or (value == 0 and not zero):
        least = "at least 0" if zero else "more than 0"
        none_hint = "; leave it out for none" if none else ""
        raise ValueError(f"{name} must be {least} seconds and finite, not {value!r}{none_hint}")
    return float(value)


def seconds_or(name: str, value: Any, default: float) -> float:
    """`value` as seconds, or the default where it was left out."""
    checked = seconds(name, value)
    return default if checked is None else checked


def check_callable(fn: Any, what: str = "the task") -> None:
    """Refuse what cannot be a task, where it is submitted."""
    inner = fn
    while isinstance(inner, partial):
        inner = inner.func
    if type(inner) is FunctionType and not (inner.__code__.co_flags & _NO_PLAIN or vars(inner)):
        return
    if not callable(fn):
        raise TypeError(f"{what} must be a function or another callable, not {fn!r}")
    if type(fn) is type(len) or isinstance(fn, type):
        return
    import inspect  # heavy, and hardly ever needed

    for each in called_by(inner):
        name = name_of(fn if each is inner else each)
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(
                f"{what} {name} is a coroutine function; a worker process runs plain functions: "
                "wrap it in one that calls asyncio.run()"
            )
        if inspect.isgeneratorfunction(each):
            way_out = (
                "a generator cannot travel between processes: return a list instead"
                if what == "the task"
                else "a call of it runs nothing: make it a plain function"
            )
            raise TypeError(f"{what} {name} is a generator function, and {way_out}")


def check_map(
    fn: Callable[..., Any], *inputs: Any, chunksize: Any = None, buffersize: Any = None
) -> dict[str, Any]:
    """Refuse what cannot be a map, before anything is opened for it; its sizes, by name."""
    check_callable(fn)
    for items in inputs:
        if not is_iterable(items):
            raise TypeError(f"the items must be iterable, not {items!r}")
    return {
        "chunksize": positive_int("chunksize", chunksize),
        "buffersize": positive_int("buffersize", buffersize),
    }


def called_by(fn: Any) -> tuple[Any, Any]:
    """What a call of it runs is among these: itself, without `partial`, or its class's method."""
    while isinstance(fn, partial):
        fn = fn.func
    return fn, type(fn).__call__


def name_of(fn: Any) -> str:
    """How to call a function in a message."""
    return getattr(fn, "__qualname__", None) or repr(fn)


def start_method(method: Any, context: Any, *, drop_in: bool) -> str:
    """Which start method to use; `multiprocessing`'s own settings are honoured."""
    if method is not None and context is not None:
        raise ValueError("give start_method or mp_context, not both")
    if context is not None:
        if isinstance(context, str):
            method = context
        elif hasattr(context, "get_start_method"):
            method = context.get_start_method()
        else:
            raise TypeError(
                f"mp_context must come from multiprocessing.get_context(), not {context!r}"
            )
    available = _METHODS
    if method is None:
        mp = sys.modules.get("multiprocessing")
        if drop_in and mp is None:
            import multiprocessing as mp  # heavy, and only the drop-ins need it
        told = None if mp is None else mp.get_start_method(allow_none=True)
        if drop_in:
            assert mp is not None
            method = told or mp.get_all_start_methods()[0]
        elif mp is not None and told != mp.get_all_start_methods()[0]:
            # The platform's default is "told" by the first lock or pool that a program makes, and
            # nobody can tell that from a choice; so a choice of the default does not reach us.
            method = told
        if method is None:
            method = "forkserver" if "forkserver" in available else "spawn"
    if method not in available:
        name = "start_method" if context is None else "mp_context"
        raise ValueError(f"{name} must be one of {', '.join(map(repr, available))}, not {method!r}")
    return str(method)


def make_policy(policy: Any) -> Policy:
    """A policy for one group: an object, or a function that makes one."""
    if policy is None:
        return fail_fast()
    if callable(policy) and (isinstance(policy, type) or not hasattr(policy, "on_outcome")):
        policy = policy()
    if not hasattr(policy, "on_outcome"):
        raise TypeError(
            f"policy must be made by andon.fail_fast(), andon.collect_all() or the like, "
            f"not {policy!r}"
        )
    missing = [name for name in _OF_A_POLICY if not hasattr(policy, name)]
    if missing or not callable(policy.on_outcome):
        raise TypeError(
            f"policy {policy!r} is not complete: it needs the method on_outcome and the attributes "
            f"{', '.join(_OF_A_POLICY)}" + (f"; it has no {', '.join(missing)}" if missing else "")
        )
    return policy  # type: ignore[no-any-return]


def open_runtime(
    *,
    workers: Any = None,
    start_method_: Any = None,
    mp_context: Any = None,
    initializer: Callable[..., Any] | None = None,
    initargs: Any = (),
    max_tasks_per_worker: Any = None,
    reuse_interrupted: bool = False,
    engine: Any = None,
    drop_in: bool = False,
    prestart: bool = False,
    most: int | None = None,
    name: str = "andon",
    trace: Any = None,
    strict: bool = False,
    env: Any = None,
) -> Runtime:
    """Check everything, then open a pool's runtime. `most`: no more workers than this. `strict`:
    refuse an engine that cannot kill (S49)."""
    count = positive_int("workers", workers) or cpu_count()
    if most is not None:
        count = max(1, min(count, most))
    limit = positive_int("max_tasks_per_worker", max_tasks_per_worker)
    if initializer is not None:
        check_callable(initializer, "initializer")
    arguments = tuple_of("initargs", initargs, text=drop_in)
    if initializer is None and arguments and not drop_in:
        raise ValueError("initargs were given without an initializer")
    method = start_method(start_method_, mp_context, drop_in=drop_in)
    config = Config(count, method, initializer, arguments, limit, bool(reuse_interrupted), prestart)
    config.env = check_env(env)
    if trace is not None and not callable(trace):
        raise TypeError(f"trace must be a function of one TraceEvent, not {trace!r}")
    runtime = Runtime(_make_engine(engine, method), config, name, trace)
    if strict and not runtime.capabilities.can_kill:
        runtime.close()
        raise ValueError(
            f"strict=True needs an engine that can kill a stuck task; engine={engine!r} cannot"
        )
    return runtime


def _make_engine(engine: Any, method: str) -> Engine:
    if engine is None or engine == "local":
        if method != "fork":
            check_interpreter()

        if sys.platform == "linux":  # elsewhere nothing is forked
            from andon._engines.local import template

            if registry.pause_drivers not in template.before_fork_hooks:
                template.before_fork_hooks.append(registry.pause_drivers)
                template.after_fork_hooks.append(registry.resume_drivers)
            template.prepare(method)  # it starts while we do the rest
        return LocalEngine()
    if engine == "inline":
        from andon._engines.inline import InlineEngine

        return InlineEngine()
    if isinstance(engine, str):
        raise ValueError(f"engine must be 'local' or 'inline', not {engine!r}")
    checked: Engine = engine
    return checked
