"""The user's function as a worker calls it for the command.

What it returns is made plain there and then: JSON where possible, else its `repr`; nothing at all
where no results are written. So a value that cannot be pickled, or that nobody reads, costs
nothing and breaks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LONGEST_REPR = 10_000


@dataclass(frozen=True, slots=True)
class ItemTask:
    """Calls `function` with the item; returns its value, made plain, only where `keep`."""

    function: Callable[[str], Any]
    keep: bool

    def __call__(self, item: str) -> Any:
        value = self.function(item)
        return plain(value) if self.keep else None


def plain(value: Any) -> Any:
    """`value` where JSON can hold it as it stands, else its `repr`, shortened."""
    try:
        return json.loads(json.dumps(value, allow_nan=False), object_pairs_hook=_each_its_own)
    except Exception:  # not JSON's kind, not a number, too deep, or a property that raises
        return _repr(value)


def _each_its_own(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON's keys are strings: of {1: x, "1": y} it would keep y only.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two keys are one in JSON")
    return found


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__qualname__}: repr() raised {type(error).__name__}>"
    return text if len(text) <= LONGEST_REPR else text[:LONGEST_REPR] + "..."
