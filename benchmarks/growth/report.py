"""From a run of the curves, as it is written in JSON, to what grew, and tables."""

from __future__ import annotations

from typing import Any

from benchmarks.figures import Figure, number, verdict

Result = dict[str, Any]

VALUES = ("time", "memory", "whole")
BOUND = 1.5  # times as much at the largest size as at the smallest, at most


def growth(curve: Result, value: str) -> tuple[float, float] | None:
    """The last point's value over the first one's, and over the least."""
    values = [point[value] for point in curve["points"] if value in point]
    if len(values) < 2 or not values[0]:
        return None
    least = min(each for each in values if each) if any(values) else values[0]
    return values[-1] / values[0], values[-1] / least


def all_figures(result: Result) -> list[Figure]:
    found = []
    for curve in result["curves"]:
        for value in VALUES:
            grown = growth(curve, value)
            if grown is not None:
                sizes = [point["size"] for point in curve["points"] if value in point]
                span = f"{sizes[0]:,} to {sizes[-1]:,} {curve['grows']}"
                what = f"{curve['name']}: {_words(curve, value)}, {span}"
                found.append(Figure(what, BOUND, grown[0], "×"))
    return found


def summary(result: Result) -> str:
    """A line for each curve, as a table of Markdown."""
    lines = ["| what | from the smallest to the largest | from the least | reached |"]
    lines.append("|--|--:|--:|--|")
    grown = [
        both
        for curve in result["curves"]
        for value in VALUES
        if (both := growth(curve, value)) is not None
    ]
    for figure, (_, least) in zip(all_figures(result), grown, strict=True):
        measured = number(figure.measured or 0.0)
        lines.append(
            f"| {figure.what} | {measured} × (≤ {number(figure.target)}) | {number(least)} × "
            f"| {verdict(figure)} |"
        )
    return "\n".join(lines)


def table(curve: Result) -> str:
    """Every point."""
    lines = [f"{curve['name']}: {curve['title']}"]
    for point in curve["points"]:
        line = f"  {point['size']:>12,} {curve['grows']}"
        line += f"  {point['time'] * 1e6:10.3f} µs per {curve['per']}"
        for value in ("memory", "whole"):
            if value in point:
                line += f"  {point[value]:12,.0f} bytes, {_words(curve, value)}"
        lines.append(line)
    return "\n".join(lines)


def _words(curve: Result, value: str) -> str:
    if value == "whole":
        return "the parent's memory"
    # The machine's time is per event, its memory per task.
    per = "task" if value == "memory" and curve["per"] == "event" else curve["per"]
    return f"{value} per {per}"
