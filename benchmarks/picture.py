"""A picture of a run, as SVG: a panel for each of the telling rows, a dot for each library."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.figures import Spread, number, spread
from benchmarks.speed import report

Result = dict[str, Any]

PANELS = [  # row, metric
    ("bulk-map", "rate"),
    ("stream", "rate"),
    ("submits", "rate"),
    ("round-trip", "p50"),
    ("arrays-in", "rate"),
    ("arrays-out", "rate"),
    ("cold-forkserver-2", "first"),
    ("cold-spawn-2", "first"),
]
_WIDTH, _MARGIN, _GAP = 900, 24, 32
_PANEL = (_WIDTH - 2 * _MARGIN - _GAP) // 2
_NAMES, _VALUES = 138, 66  # left and right of the axis
_HEAD, _LINE = 44, 19
_STYLE = """
    text { fill: #1f2328; font-size: 13px }
    .head { font-weight: 600; font-size: 14px }
    .small { font-size: 11px; fill: #57606a }
    .end { text-anchor: end }
    .ours { font-weight: 600; fill: #a32f2f }
    .rule { stroke: #d0d7de; stroke-width: 1 }
    .dot { fill: #57606a }
    .spread { stroke: #57606a; stroke-width: 3; opacity: 0.45 }
    .dot.ours { fill: #a32f2f }
    .spread.ours { stroke: #a32f2f }
"""


def svg(result: Result) -> str:
    """The whole picture; rows that were not measured are left out."""
    rows = {row["name"]: row for row in result["rows"]}
    shown = []
    for name, metric in PANELS:
        row = rows.get(name)
        if row is not None and report.of(row, "andon", metric):
            shown.append((row, next(m for m in row["metrics"] if m["name"] == metric)))
    body: list[str] = []
    y = 64
    for left, right in zip(shown[::2], [*shown[1::2], None], strict=False):
        heights = []
        for number_, panel in enumerate((left, right)):
            if panel is not None:
                heights.append(_panel(body, *panel, _MARGIN + number_ * (_PANEL + _GAP), y))
        y += max(heights) + 26
    about = result["about"]
    words = f"Python {about['python']}, {about['cpus']} CPUs, 2 workers; logarithmic axes"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" \
height="{y}" role="img" aria-labelledby="title desc" \
font-family="system-ui, -apple-system, 'Segoe UI', sans-serif">
  <title id="title">andon beside other pools</title>
  <desc id="desc">For each measurement the median of each library as a dot on a logarithmic axis,
  with the quartiles as a line.</desc>
  <style>{_STYLE}  </style>
  <rect width="{_WIDTH}" height="{y}" rx="8" fill="#ffffff"/>
  <text class="head" x="{_MARGIN}" y="32">andon beside other pools, in one run</text>
  <text class="small end" x="{_WIDTH - _MARGIN}" y="32">{escape(words)}</text>
{chr(10).join(body)}
</svg>
"""


def _panel(body: list[str], row: Result, metric: Result, x: int, y: int) -> int:
    """Draw one; how high it is."""
    found: list[tuple[str, Spread]] = []
    for name in row["cells"]:
        values = spread(report.of(row, name, metric["name"]))
        if values is not None and values.least > 0:
            found.append((name, values))
    found.sort(key=lambda each: each[1].median, reverse=metric["more"])
    low = math.floor(math.log10(min(each.least for _, each in found)))
    high = math.ceil(math.log10(max(each.high for _, each in found)) + 1e-9)
    left, right = x + _NAMES, x + _PANEL - _VALUES

    def at(value: float) -> float:
        return left + (right - left) * (math.log10(value) - low) / max(1, high - low)

    better = "more is better" if metric["more"] else "less is better"
    bottom = y + _HEAD + _LINE * len(found)
    title = row["title"].replace("`", "")
    body.append(f'  <text class="head" x="{x}" y="{y}">{escape(title)}</text>')
    body.append(
        f'  <text class="small" x="{x}" y="{y + 16}">'
        f"{escape(metric['title'])}, {escape(metric['unit'])}: {better}</text>"
    )
    for power in range(low, high + 1):
        tick = at(10.0**power)
        body.append(
            f'  <line class="rule" x1="{tick:.1f}" x2="{tick:.1f}" y1="{y + 26}" '
            f'y2="{bottom - 8}"/>'
        )
    for position, (name, values) in enumerate(found):
        line = y + _HEAD + _LINE * position
        ours = " ours" if name == "andon" else ""
        body.append(f'  <text class="{ours.strip()}" x="{x}" y="{line}">{escape(name)}</text>')
        body.append(
            f'  <line class="spread{ours}" x1="{at(values.low):.1f}" x2="{at(values.high):.1f}" '
            f'y1="{line - 4}" y2="{line - 4}"/>'
        )
        body.append(
            f'  <circle class="dot{ours}" cx="{at(values.median):.1f}" cy="{line - 4}" r="5"/>'
        )
        body.append(
            f'  <text class="end{ours}" x="{x + _PANEL}" y="{line}">'
            f"{number(values.median)}</text>"
        )
    return bottom - y
