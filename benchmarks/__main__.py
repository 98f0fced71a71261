"""How fast is andon, beside other pools in the same run?

    python -m benchmarks                       # everything, some ten minutes
    python -m benchmarks round-trip cold       # some rows; `cold` is all that begin with it
    python -m benchmarks --quick               # small sizes: does it run?
    python -m benchmarks --json result.json --libs andon loky -- bulk-map

What is measured, and how, stands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.hosts import adopt_orphans, machine
from benchmarks.speed import measures, report
from benchmarks.speed.catalogue import LIBRARIES
from benchmarks.speed.rows import ROWS
from benchmarks.speed.run import Run, rows_named

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
    add("--verbose", action="store_true")
    options = parser.parse_args()
    for name in options.rows:
        if name != STOP and not rows_named([name]):
            parser.error(f"there is no row {name}; there are {', '.join([*ROWS, STOP])}")
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
    aside = options.json == "-"
    adopt_orphans()
    interrupted = False
    try:
        _measure(options, installed, result, aside)
    except KeyboardInterrupt:
        interrupted = True
    result["figures"] = [{**f._asdict(), "ok": f.ok} for f in report.all_figures(result)]
    if aside:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        if options.json:
            with open(options.json, "w") as file:
                json.dump(result, file, indent=1)
        print(f"\n{report.about(result)}\n\n{report.summary(result)}")
    if interrupted:
        sys.exit(130)


def _measure(
    options: argparse.Namespace, libraries: list[str], result: dict[str, Any], aside: bool
) -> None:
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
            result["rows"].append(found)
            if not aside:
                print(f"{report.table(found)}\n", flush=True)
    finally:
        run.close()
    if not options.rows or STOP in options.rows:
        result["stop"] = _stop(options, libraries, aside)


def _stop(options: argparse.Namespace, libraries: list[str], aside: bool) -> dict[str, Any]:
    from benchmarks.stop import __main__ as stop

    known = [name for name in libraries if name in stop.LIBRARIES]
    given = ["--start-method", options.start_method, "--libs", *known]
    given += ["--rounds", "1" if options.quick else "5"]
    if options.quick:
        given += ["--rows", "token-loop", "python-loop"]
    chosen = stop.arguments(given)
    result, run, figures = stop.measure(chosen)
    if not aside:
        stop.show(result["about"], run, figures, chosen)
    return result


if __name__ == "__main__":
    main()
