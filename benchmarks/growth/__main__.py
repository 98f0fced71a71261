"""How andon grows: curves, not points.

    python -m benchmarks.growth                        # up to a million of anything
    python -m benchmarks.growth --up-to 10000000       # all of it
    python -m benchmarks.growth map machine-tasks --json growth.json
    python -m benchmarks.growth --quick

Time and memory for each item should not grow with their number: at the largest size at most 1.5
times as much as at the smallest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.growth import report
from benchmarks.growth.curves import CURVES
from benchmarks.hosts import machine
from benchmarks.programs import ROOT, module_command

_WITHIN = 900.0  # seconds, for one point
Result = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=f"curves: {', '.join(CURVES)}",
    )
    add = parser.add_argument
    add("curves", nargs="*", metavar="CURVE", help="these only")
    add("--up-to", type=int, default=1_000_000, metavar="N", help="the largest size (1000000)")
    add("--quick", action="store_true", help="two small sizes of each: does it run?")
    add("--json", metavar="FILE", help="- for standard output, instead")
    add("--point", nargs=2, metavar=("CURVE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.curves:
        if name not in CURVES:
            parser.error(f"there is no curve {name}; there are {', '.join(CURVES)}")
    if options.up_to < 1:
        parser.error("--up-to must be 1 or more")
    return options


def main() -> None:
    options = arguments()
    if options.point:
        name, size = options.point
        print(json.dumps(CURVES[name].measure(int(size))))
        return
    result: Result = {"about": machine(), "bound": report.BOUND, "curves": []}
    for name in options.curves or CURVES:
        found = _curve(name, options)
        result["curves"].append(found)
        if options.json != "-":
            print(f"{report.table(found)}\n", flush=True)
    result["figures"] = [{**f._asdict(), "ok": f.ok} for f in report.all_figures(result)]
    if options.json == "-":
        json.dump(result, sys.stdout, indent=1)
        print()
        return
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
    print(report.summary(result))


def _curve(name: str, options: argparse.Namespace) -> Result:
    curve = CURVES[name]
    sizes = [size for size in curve.sizes if size <= options.up_to] or [curve.sizes[0]]
    if options.quick:
        sizes = list(curve.sizes[:2])
    points = []
    for size in sizes:
        print(f"{name}: {size}", file=sys.stderr, flush=True)
        done = subprocess.run(
            module_command("growth", "--point", name, size),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            timeout=_WITHIN,
        )
        if done.returncode:
            raise SystemExit(f"{name} of {size} ended with status {done.returncode}")
        points.append({"size": size, **json.loads(done.stdout)})
    return {"name": name, **curve._replace(measure=None)._asdict(), "points": points}  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
