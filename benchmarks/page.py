"""Puts a run into the documentation: the tables of docs/performance.md, and its picture.

    python -m benchmarks --json result.json
    python -m benchmarks.growth --json growth.json
    python -m benchmarks.page result.json --growth growth.json

What stands between the page's markers is replaced, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from benchmarks import picture
from benchmarks.growth import report as growth_report
from benchmarks.programs import ROOT
from benchmarks.speed import report

PAGE = os.path.join(ROOT, "docs", "performance.md")
PICTURE = os.path.join(ROOT, "docs", "images", "performance.svg")


def fill(page: str, name: str, text: str) -> str:
    """The page with this between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def speed_text(result: dict[str, Any]) -> str:
    text = (
        "![Medians of andon and of other pools](images/performance.svg)\n\n"
        f"{report.about(result)}\n\n{report.summary(result)}\n\n"
        f"Every library, row by row:\n\n```text\n{report.tables(result)}\n```"
    )
    if result["stop"]:
        text += f"\n\nHow fast the line stops:\n\n```text\n{result['stop']['text']}\n```"
    return text


def growth_text(result: dict[str, Any]) -> str:
    points = "\n\n".join(growth_report.table(curve) for curve in result["curves"])
    return f"{growth_report.summary(result)}\n\n```text\n{points}\n```"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("result", help="what `python -m benchmarks --json` has written")
    parser.add_argument("--growth", metavar="FILE", help="and `python -m benchmarks.growth --json`")
    parser.add_argument("--page", default=PAGE, help="the page to fill (docs/performance.md)")
    parser.add_argument("--picture", default=PICTURE, help="(docs/images/performance.svg)")
    options = parser.parse_args()
    with open(options.page) as file:
        page = file.read()
    with open(options.result) as file:
        result = json.load(file)
    page = fill(page, "figures", speed_text(result))
    if options.growth:
        with open(options.growth) as file:
            page = fill(page, "growth", growth_text(json.load(file)))
    drawn = picture.svg(result)
    with open(options.page, "w") as file:
        file.write(page)
    with open(options.picture, "w") as file:
        file.write(drawn)


if __name__ == "__main__":
    main()
