"""Run every case, or those of the programs that are named; one line each, then the sum."""

from __future__ import annotations

import multiprocessing
import platform
import sys

from tests.programs.cases import CASES
from tests.programs.compare import differences


def main(names: list[str]) -> int:
    programs = list(dict.fromkeys(case.program for case in CASES))
    unknown = [name for name in names if name not in programs]
    if unknown:
        print(f"no such program: {', '.join(unknown)}; there are {', '.join(programs)}")
        return 2
    method = multiprocessing.get_start_method()
    print(f"Python {platform.python_version()}, start method {method}")
    failed = 0
    for program in names or programs:
        cases = [case for case in CASES if case.program == program]
        wrong = {case.what: found for case in cases if (found := differences(case))}
        told = ", ".join(
            f"{case.what} ({'DIFFERS' if case.what in wrong else case.status})" for case in cases
        )
        print(f"{program:12} {'differs' if wrong else 'same':8} {told}", flush=True)
        for what, found in wrong.items():
            print(f"--- {program}, {what}", *found, sep="\n")
        failed += bool(wrong)
    count = len(names or programs)
    print(f"real programs: {count - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
