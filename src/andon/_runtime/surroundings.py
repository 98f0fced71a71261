"""What a pool or a group gives to its tasks beside their arguments: environment variables of the
workers, context variables of whoever submits. Checked before any process starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from andon._variables import reduce

Env = Mapping[str, str | None]
Variables = tuple[ContextVar[Any], ...]


def check_env(env: Any) -> dict[str, str | None]:
    """The environment variables that workers have besides the parent's, or (None) lack."""
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a mapping of names to values, not {env!r}")
    for name, value in env.items():
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise TypeError(
                "env must map names to strings, or to None for what workers shall not have, "
                f"not {name!r} to {value!r}: {env!r}"
            )
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"env: {name!r} cannot be the name of a variable: {env!r}")
        if value is not None and "\0" in value:
            raise ValueError(f"env: the value of {name!r} contains a NUL character: {env!r}")
    return dict(env)


def check_variables(variables: Any) -> Variables:
    """The context variables whose values travel with each task."""
    if variables is None:
        return ()
    if isinstance(variables, ContextVar) or not isinstance(variables, Iterable):
        raise TypeError(f"contextvars must be a list of ContextVar objects, not {variables!r}")
    found = tuple(variables)
    for var in found:
        if not isinstance(var, ContextVar):
            raise TypeError(f"contextvars must hold ContextVars, not {var!r}: {variables!r}")
        reduce(var)  # before a fork: then a worker knows it, wherever it is kept
    return found
