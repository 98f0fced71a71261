"""Objects that forked workers inherit instead of unpickling them."""

from __future__ import annotations

from typing import Any

inherited: dict[int, Any] = {}
"""By number; filled right before the template is forked, and emptied in the parent after it."""


def take_inherited(key: int) -> Any:
    """What a pickle refers to that stands for an inherited object."""
    return inherited[key]
