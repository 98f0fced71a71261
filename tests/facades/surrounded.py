"""A module that reads its environment as it is imported, and context variables when called."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any

request: ContextVar[str] = ContextVar("request", default="nobody's")


class Tenant:
    """A variable need not be a global."""

    name: ContextVar[str] = ContextVar("name")


AT_IMPORT = os.environ.get("ANDON_TEST_ADDED")
_at_start: list[Any] = []


def note_environment(*names: str) -> None:
    """An initializer: the environment is there before it runs."""
    _at_start[:] = [os.environ.get(name) for name in names]


def environment(*names: str) -> tuple[Any, ...]:
    return AT_IMPORT, list(_at_start), [os.environ.get(name) for name in names]


def context(item: int = 0) -> tuple[int, str, str]:
    return item, request.get(), Tenant.name.get("no tenant")


def set_and_tell(value: str) -> str:
    before = request.get()
    request.set(value)
    return before
