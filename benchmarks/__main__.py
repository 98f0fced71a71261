"""How fast is andon, beside other pools in the same run?

    python -m benchmarks                       # everything, some twenty minutes
    python -m benchmarks round-trip cold       # some rows; `cold` is all that begin with it
    python -m benchmarks --quick               # small sizes: does it run?
    python -m benchmarks bulk-map --libs andon loky --json result.json

What is measured, and how, stands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from benchmarks.hosts import adopt_orphans, machine
from benchmarks.speed import measures, report
from benchmarks.speed.catalogue import LIBRARIES
from benchmarks.speed.rows import ROWS
from benchmarks.speed.run import Run, rows_named
from benchmarks.stop import __main__ as stop

STOP = "stop"  # the stop latencies: `python -m benchmarks.stop` has more options


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=f"rows: {', '.join([*ROWS, STOP])}; libraries: {', '.join(LIBRARIES)}",
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="these only, or all that begin with it")
    add("--libs", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES), metavar="LIB")
    add("--start-method", choices=["fork", "forkserver", "spawn"], default="forkserver")
    add("--workers", type=int, default=2, help="where the row does not say (2)")
    add("--rounds", type=int, default=3, help="measurements of each (3)")
    add("--quick", action="store_true", help="small sizes: a second or two for a row")
    add("--json", metavar="FILE", help="all values, too (- for standard output, instead)")
    add("--add", action="store_true", help="keep the other rows that FILE has already")
    add("--verbose", action="store_true")
    options = parser.parse_args()
    for name in options.rows:
        if name != STOP and not rows_named([name]):
            parser.error(f"there is no row {name}; there are {', '.join([*ROWS, STOP])}")
    if options.add and options.json in (None, "-"):
        parser.error("--add needs --json FILE")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if not 1 <= options.workers <= 32:
        parser.error("--workers must be 1 to 32")
    return options


def main() -> None:
    options = arguments()
    asked = [name for name in LIBRARIES if name in options.libs]
    installed = [name for name in asked if LIBRARIES[name].installed()]
    result: dict[str, Any] = {
        "about": {
            **machine(),
            "quick": options.quick,
            "libraries": {name: LIBRARIES[name].version() for name in installed},
            "not_installed": [name for name in asked if name not in installed],
            "blocks": "numpy arrays" if measures.has_numpy() else "bytes; numpy is not installed",
        },
        "rows": [],
        "stop": None,
    }
    if options.add and os.path.exists(options.json):
        with open(options.json) as file:
            before = json.load(file)
        result["rows"], result["stop"] = before["rows"], before["stop"]
    adopt_orphans()
    interrupted = False
    try:
        _measure(options, installed, result)
    except KeyboardInterrupt:
        interrupted = True
    if options.json == "-":
        json.dump(_told(result), sys.stdout, indent=1)
        print()
    else:
        print(f"\n{report.about(result)}\n\n{report.summary(result)}")
    if interrupted:
        sys.exit(130)


def _told(result: dict[str, Any]) -> dict[str, Any]:
    figures = [{**figure._asdict(), "ok": figure.ok} for figure in report.all_figures(result)]
    return {**result, "figures": figures}


def _note(options: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Show and write a row as soon as it is there."""
    if options.json == "-":
        return
    print(f"{text}\n", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(_told(result), file, indent=1)


def _measure(options: argparse.Namespace, libraries: list[str], result: dict[str, Any]) -> None:
    chosen = [name for name in options.rows if name != STOP]
    rows = rows_named(chosen) if chosen or not options.rows else []
    run = Run(
        libraries,
        method=options.start_method,
        workers=options.workers,
        rounds=1 if options.quick else options.rounds,
        quick=options.quick,
        verbose=options.verbose,
    )
    try:
        for row in rows:
            found = run.row(row)
            measured = {**{each["name"]: each for each in result["rows"]}, row.name: found}
            result["rows"] = [measured[name] for name in ROWS if name in measured]
            _note(options, result, report.table(found))
    finally:
        run.close()
    if not options.rows or STOP in options.rows:
        result["stop"] = _stop(options, libraries)
        _note(options, result, result["stop"]["text"])


def _stop(options: argparse.Namespace, libraries: list[str]) -> dict[str, Any]:
    known = [name for name in libraries if name in stop.LIBRARIES]
    given = ["--start-method", options.start_method, "--libs", *known]
    given += ["--rounds", "1" if options.quick else "5"]
    if options.quick:
        given += ["--rows", "token-loop", "python-loop"]
    return stop.measure(stop.arguments(given))


if __name__ == "__main__":
    main()
