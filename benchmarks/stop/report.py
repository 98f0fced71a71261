"""From raw times to medians with their spread, ratios, the table, the verdict on each figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Figure, spread
from benchmarks.stop.states import ROWS

# What is measured, from the raise: the words of the table.
METRICS = {
    "end": "last sibling's end",
    "exception": "caller's exception",
    "first": "next first result",
    "full": "all workers at work again",
}
# The later of the first two: only then does nothing run any more, and the caller knows.
STOPPED = "stopped"
BESIDE = {STOPPED: "all stopped, and told", **METRICS}


@dataclass
class Cell:
    """One library in one row; milliseconds."""

    times: dict[str, list[float]] = field(default_factory=lambda: {m: [] for m in BESIDE})
    missed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BESIDE, 0))
    left: int = 0  # siblings' children that were still there, and were killed by us
    rounds: int = 0
    errors: list[str] = field(default_factory=list)

    def note(self, metric: str, ms: float | None) -> None:
        if ms is None:
            self.missed[metric] += 1
        else:
            self.times[metric].append(ms)

    @property
    def hopeless(self) -> bool:
        """Has it never stopped, in two rounds?"""
        return self.rounds >= 2 and max(self.missed[m] for m in METRICS) >= self.rounds

    def median(self, metric: str) -> float | None:
        """None where it was missed in a round, or not measured."""
        of = spread(self.times[metric])
        return None if of is None or self.missed[metric] else of.median


@dataclass
class Bare:
    """What is measured without a pool."""

    byte: list[float] = field(default_factory=list)  # ms
    round_trip: list[float] = field(default_factory=list)  # ms
    signal_asleep: list[float] = field(default_factory=list)  # ms
    signal_busy: list[float] = field(default_factory=list)  # ms
    worker_start: list[float] = field(default_factory=list)  # ms
    event: list[float] = field(default_factory=list)  # ns
    check: list[float] = field(default_factory=list)  # ns


Cells = dict[tuple[str, str], Cell]  # (row, library)


def table(cells: Cells, rows: list[str], libraries: list[str], bound: float) -> str:
    lines = []
    width = max(len(name) for name in libraries) + 4
    column = 40
    head = " " * width + "".join(f"{text:<{column}}" for text in METRICS.values())
    for row in rows:
        lines += ["", f"Sibling {ROWS[row].title}", head.rstrip()]
        for name in libraries:
            cell, ours = cells[row, name], cells.get((row, "andon"))
            parts = [_one(cell, ours if name != "andon" else None, m, bound) for m in METRICS]
            line = f"  {name:<{width - 2}}" + "".join(f"{part:<{column}}" for part in parts)
            lines.append(line.rstrip())
            if cell.left:
                lines.append(f"  {'':<{width - 2}}left running: {_of(cell.left, cell.rounds)}")
    return "\n".join(lines)


def _one(cell: Cell, ours: Cell | None, metric: str, bound: float) -> str:
    found, missed = spread(cell.times[metric]), cell.missed[metric]
    if found is None:
        if missed:
            return f"not stopped in {bound:g} s" if metric == "end" else f"none in {bound:g} s"
        return "–"
    text = f"{_ms(found.median)} [{_ms(found.least)} {_ms(found.low)}–{_ms(found.high)}]"
    reference = None if ours is None else spread(ours.times[metric])
    if reference is not None and reference.median > 0:
        text += f" ×{found.median / reference.median:.3g}"
    if missed:
        text += f" −{missed}"
    return text


def _ms(time: float) -> str:
    return f"{time:.2f}" if time < 100 else f"{time:.0f}"


def _of(children: int, rounds: int) -> str:
    return f"{children} child processes in {rounds} rounds"


def figures(cells: Cells, bare: Bare, *, workers: int, method: str, kill_after: float) -> list[Any]:
    """The issue's figures, as far as this run has measured them."""
    start = spread(bare.worker_start)
    found: list[Figure] = []

    def median(row: str, metric: str) -> float | None:
        cell = cells.get((row, "andon"))
        return None if cell is None or max(cell.missed.values()) else cell.median(metric)

    def add(row: str, metric: str, what: str, target: float) -> None:
        if (row, "andon") in cells:
            found.append(Figure(f"{row}: {what}", target, median(row, metric)))

    byte = spread(bare.byte)
    for name, row in ROWS.items():
        end = "last sibling's end"
        if row.rung == "kill":
            add(name, "end", f"{end} (kill_after + 10)", kill_after * 1e3 + 10)
        elif row.target is not None:
            if workers == 2:
                add(name, "end", end, row.target)
            elif workers == 4 and byte is not None:
                add(name, "end", f"{end} (bare byte {byte.median:.2f} + 1)", byte.median + 1)
    if workers == 2:
        for name, row in ROWS.items():
            if row.rung != "kill":
                add(name, "exception", "caller's exception", 2.0)
        for name, row in ROWS.items():
            # After a kill the clock starts when the old processes are gone and the caller knows.
            if row.rung == "token":
                add(name, "first", "next first result", 2.0)
                continue
            target, words = 10.0, ""
            if method == "spawn" and start is not None:
                target = 1.2 * start.median
                words = f" (1.2 × {start.median:.1f}, a bare worker start)"
            if row.rung == "kill":
                target, words = target + kill_after * 1e3, f" (kill_after + …){words}"
            add(name, "first", f"next first result{words}", target)
    check = spread(bare.check)
    if check is not None:
        found.append(Figure("one check of the token", 150.0, check.median, "ns"))
    return found


def beside_peers(cells: Cells) -> list[Figure]:
    """andon's median over the best peer's, in each row; of those that made it in every round."""
    found = []
    for row in ROWS:
        for metric in (STOPPED, "end", "exception"):
            medians = {
                library: median
                for (name, library), cell in cells.items()
                if name == row and (median := cell.median(metric)) is not None
            }
            ours = medians.pop("andon", None)
            if ours is not None and medians:
                best = min(medians, key=medians.__getitem__)
                what = f"{row}: {BESIDE[metric]}, over the best peer's ({best})"
                found.append(Figure(what, 1.0, ours / medians[best], "×"))
    return found


def floor(bare: Bare) -> str:
    lines = []
    for words, values, unit in (
        ("a bare shared byte, from set to last seen", bare.byte, "ms"),
        ("a byte over a pipe to a process and back", bare.round_trip, "ms"),
        ("a signal, felt in another's time.sleep", bare.signal_asleep, "ms"),
        ("a signal, felt in another's Python loop", bare.signal_busy, "ms"),
        ("a bare worker start, to its first byte", bare.worker_start, "ms"),
        ("one multiprocessing.Event().is_set()", bare.event, "ns"),
        ("one andon.check() in a task", bare.check, "ns"),
    ):
        of = spread(values)
        if of is not None:
            lines.append(
                f"  {words:<42} {of.median:8.3f} [{of.least:.3f} {of.low:.3f}–{of.high:.3f}]"
                f" {unit}, n={of.n}"
            )
    return "\n".join(lines)


def as_json(cells: Cells) -> list[dict[str, Any]]:
    found = []
    for (row, library), cell in cells.items():
        entry: dict[str, Any] = {
            "row": row,
            "library": library,
            "rounds": cell.rounds,
            "left_behind": cell.left,
            "errors": cell.errors,
        }
        for metric in BESIDE:
            of = spread(cell.times[metric])
            ours = cells.get((row, "andon"))
            reference = None if ours is None else spread(ours.times[metric])
            entry[metric] = {
                "summary": None if of is None else of._asdict(),
                "ratio": of.median / reference.median if of and reference else None,
                "missed": cell.missed[metric],
                "ms": cell.times[metric],
            }
        found.append(entry)
    return found
