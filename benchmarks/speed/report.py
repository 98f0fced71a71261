"""From a run, as it is written in JSON, to ratios, targets and tables."""

from __future__ import annotations

from typing import Any

from benchmarks.figures import Figure, Spread, number, spread, verdict

Result = dict[str, Any]


def of(row: Result, library: str, metric: str) -> list[float]:
    cell = row["cells"].get(library)
    return [] if cell is None else cell["values"][metric]


def ratios(row: Result, metric: str, library: str) -> Spread | None:
    """andon's value over the other's, round by round."""
    pairs = zip(of(row, "andon", metric), of(row, library, metric), strict=False)
    return spread([ours / theirs for ours, theirs in pairs if theirs])


def best_peer(row: Result, metric: Result) -> str | None:
    """Who has the best median, but for andon."""
    medians = {
        name: found.median
        for name in row["cells"]
        if name != "andon" and (found := spread(of(row, name, metric["name"])))
    }
    if not medians:
        return None
    return (max if metric["more"] else min)(medians, key=medians.__getitem__)


def figures(row: Result) -> list[Figure]:
    """What was to be reached in this row, and what was."""
    found = []
    metrics = {metric["name"]: metric for metric in row["metrics"]}
    for target in row["targets"]:
        metric = metrics[target["metric"]]
        name, bound, against = metric["name"], target["bound"], target["against"]
        ours = spread(of(row, "andon", name))
        what = f"{row['name']}: {metric['title']}"
        if against is None:
            measured = None if ours is None else ours.median
            found.append(Figure(what, bound, measured, metric["unit"], metric["more"]))
            continue
        other = best_peer(row, metric) if against == "the best peer" else against
        theirs = None if other is None else spread(of(row, other, name))
        shown = other if other == against else f"{against}'s ({other or 'none'})"
        if target["less"]:
            measured = ours.median - theirs.median if ours and theirs else None
            found.append(Figure(f"{what}, less {shown}", bound, measured, metric["unit"]))
        else:
            ratio = None if other is None else ratios(row, name, other)
            measured = None if ratio is None else ratio.median
            found.append(Figure(f"{what}, over {shown}", bound, measured, "×", metric["more"]))
    return found


def summary(result: Result) -> str:
    """A line for each target, as a table of Markdown."""
    rows = [("what", "target", "andon", "reached"), ("--", "--:", "--:", "--")]
    for f in all_figures(result):
        measured = "–" if f.measured is None else _with_unit(f.measured, f.unit)
        sign = "≥" if f.least else "≤"
        rows.append((f.what, f"{sign} {_with_unit(f.target, f.unit)}", measured, verdict(f)))
    return _aligned(rows)


def all_figures(result: Result) -> list[Figure]:
    found = [figure for row in result["rows"] for figure in figures(row)]
    if result.get("stop"):
        for told in result["stop"]["figures"]:
            words = {key: told[key] for key in Figure._fields if key != "what"}
            found.append(Figure(f"stop: {told['what']}", **words))
    return found


def table(row: Result) -> str:
    """Every library's values, with their spread."""
    head = [row["title"]]
    for metric in row["metrics"]:
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        head += [f"{metric['title']}{unit}", "andon ÷ it"]
    lines = [tuple(head)]
    for name, cell in row["cells"].items():
        size = cell.get("size")
        smaller = size is not None and size != row["full_size"]
        line = [f"{name} (n = {size:,})".replace(",", "\u202f") if smaller else name]
        for metric in row["metrics"]:
            found = spread(cell["values"][metric["name"]])
            if found is None:
                line += ["error" if cell["error"] else "–", ""]
                continue
            line.append(_spread(found))
            ratio = None if name == "andon" else ratios(row, metric["name"], name)
            line.append("" if ratio is None else _spread(ratio))
        lines.append(tuple(line))
    about = f"{row['workers']} workers, {row['method']}, {row['rounds']} rounds"
    return f"{_columns(lines)}\n({row['name']}: {about})"


def tables(result: Result) -> str:
    return "\n\n".join(table(row) for row in result["rows"])


def about(result: Result) -> str:
    told = result["about"]
    versions = told["libraries"].items()
    libraries = ", ".join(f"{name} {version}".strip() for name, version in versions)
    lines = [
        f"Python {told['python']}, {told['system']}, {told['cpus']} CPUs.",
        f"Beside: {libraries}.",
    ]
    if told["not_installed"]:
        lines.append(f"Not installed, left out: {', '.join(told['not_installed'])}.")
    lines.append(f"Large blocks are {told['blocks']}.")
    if told["quick"]:
        lines.append("Sizes for a quick look only: these figures say nothing.")
    if told["load_before"] > 0.5:
        lines.append(
            f"The load was {told['load_before']:.2f} before it began: the machine may not have "
            "been idle."
        )
    return "\n".join(lines)


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


def _spread(found: Spread) -> str:
    median, least, low, high = map(number, found[:4])
    return median if found.n == 1 else f"{median} [{least}, {low}–{high}]"


def _columns(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for number_, row in enumerate(rows):
        fill = "-" if number_ == 1 else " "
        cells = []
        for n, (text, width) in enumerate(zip(row, widths, strict=True)):
            right = rows[1][n].endswith(":")
            if number_ == 1:
                text = "-" * (width - right) + ":" * right
            cells.append(text.rjust(width, fill) if right else text.ljust(width, fill))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
