"""Medians with their spread, and the targets: was each reached?"""

from __future__ import annotations

import statistics
from typing import NamedTuple


class Spread(NamedTuple):
    median: float
    least: float
    low: float  # the quartiles
    high: float
    n: int


def spread(values: list[float]) -> Spread | None:
    """Of any number of values; None of none."""
    if not values:
        return None
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], values[0], 1)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(statistics.median(values), min(values), low, high, len(values))


class Figure(NamedTuple):
    """One of the targets. `least`: to be at least that much; otherwise at most."""

    what: str
    target: float
    measured: float | None
    unit: str = "ms"
    least: bool = False

    @property
    def ok(self) -> bool | None:
        """None: it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.target if self.least else self.measured <= self.target


def number(value: float) -> str:
    """With three digits that count, or all before the point."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", "\u202f" if size >= 10_000 else "")
    return f"{value:.3g}" if size >= 0.001 else f"{value:.1g}"


def verdict(figure: Figure) -> str:
    """In words."""
    return {None: "not measured", True: "yes", False: "NO"}[figure.ok]


def verdicts(found: list[Figure]) -> str:
    """A line for each."""
    lines = []
    width = max((len(f.what) for f in found), default=0)
    for f in found:
        measured = "–" if f.measured is None else f"{f.measured:.3f}"
        lines.append(
            f"  {f.what:<{width}}  target {'≥' if f.least else '≤'} {f.target:>8.3f} {f.unit}"
            f"  measured {measured:>9} {f.unit}  {verdict(f)}"
        )
    return "\n".join(lines)
