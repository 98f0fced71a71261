"""How fast does the line stop? From the raise in a failing task to its siblings' end, to the
caller's exception, and to the first result of the next group; andon beside other pools.

    python -m benchmarks.stop                     # two workers, forkserver, every library
    python -m benchmarks.stop --workers 4 --rounds 30 --json result.json
    python -m benchmarks.stop --rows token-loop child --libs andon loky

What is measured, and how, stands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.figures import Figure, verdicts
from benchmarks.hosts import Stolen, adopt_orphans, machine
from benchmarks.stamps import MOST
from benchmarks.stop import report
from benchmarks.stop.peers import LIBRARIES
from benchmarks.stop.run import Run
from benchmarks.stop.states import ROWS


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stop",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=f"rows: {', '.join(ROWS)}; libraries: {', '.join(LIBRARIES)}",
    )
    add = parser.add_argument
    add("--workers", type=int, default=2, help="one fails, the others are siblings (2; or 4)")
    add("--start-method", choices=["fork", "forkserver", "spawn"], default="forkserver")
    add("--rounds", type=int, default=20, help="measurements of each (20)")
    add("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    add("--libs", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES), metavar="LIB")
    add("--bound", type=float, default=5.0, help="seconds after which nobody is waited for (5)")
    add("--kill-after", type=float, default=0.25, help="seconds from andon's interrupt to the kill")
    add("--json", metavar="FILE", help="all times, too (- for standard output)")
    add("--verbose", action="store_true")
    options = parser.parse_args(given)
    if not 2 <= options.workers <= MOST:
        parser.error(f"--workers must be 2 to {MOST}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def main() -> None:
    options = arguments()
    adopt_orphans()
    result = measure(options)
    if options.json == "-":
        json.dump(result, sys.stdout, indent=1)
        print()
        return
    if options.json:
        with open(options.json, "w") as f:
            json.dump(result, f, indent=1)
    print(result["text"])
    if result["about"]["interrupted"]:
        sys.exit(130)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; as it is written in JSON, and as text."""
    asked = [name for name in LIBRARIES if name in options.libs]
    libraries = [name for name in asked if LIBRARIES[name].installed()]
    about: dict[str, Any] = {
        **machine(),
        "workers": options.workers,
        "start_method": options.start_method,
        "rounds": options.rounds,
        "kill_after": options.kill_after,
        "bound": options.bound,
        "libraries": {name: LIBRARIES[name].version() for name in libraries},
        "not_installed": [name for name in asked if name not in libraries],
        "interrupted": False,
    }
    run = Run(options, libraries)
    stolen = Stolen()
    try:
        run.rounds()
    except KeyboardInterrupt:
        about["interrupted"] = True
    finally:
        run.close()
    about["stolen"] = stolen.share()
    figures = report.figures(
        run.cells,
        run.bare,
        workers=options.workers,
        method=options.start_method,
        kill_after=options.kill_after,
    )
    figures += report.beside_peers(run.cells)
    return {
        "about": about,
        "bare": vars(run.bare),
        "cells": report.as_json(run.cells),
        "figures": [{**f._asdict(), "ok": f.ok} for f in figures],
        "text": text(about, run, figures, options),
    }


def text(
    about: dict[str, Any], run: Run, figures: list[Figure], options: argparse.Namespace
) -> str:
    """All of it, for people."""
    libraries = list(about["libraries"])
    lines = [
        f"Python {about['python']}, {about['cpus']} CPUs, {options.workers} workers, "
        f"{options.start_method}, {options.rounds} rounds; load before: {about['load_before']:.2f}"
    ]
    if about["load_before"] > 0.5:
        lines.append("The machine was not idle: do not trust these figures.")
    lines.append(f"The machine's host took {about['stolen']:.2%} of its cores' time meanwhile.")
    for name in libraries:
        own = " Has a start method of its own." if LIBRARIES[name].own_start_method else ""
        what = f"{name} {about['libraries'][name]}".rstrip()
        lines.append(f"  {what}: {LIBRARIES[name].recipe}.{own}")
    lines += [f"  {name}: not installed, left out" for name in about["not_installed"]]
    lines += [
        "",
        "Milliseconds from the raise: median [least, quartiles] ×ratio to andon's median; "
        "−n: in n rounds not within the bound.",
        report.table(run.cells, options.rows, libraries, options.bound),
        "",
        "Without a pool",
        report.floor(run.bare),
        "",
        "Targets for andon",
        verdicts(figures),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
