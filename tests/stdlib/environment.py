"""The Python that a suite runs in: in it, and in its children, our classes take the others' place.

The standard tests start programs of their own, most of them with `-I`, that use the pool under its
standard name. So the replacement is made where no flag prevents it: in a virtual environment made
for the run, whose `.pth` file calls `take_place` whenever its interpreter starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import traceback
from pathlib import Path

from tests.stdlib import suites

SUITE = "ANDON_STDLIB_SUITE"
METHOD = "ANDON_STDLIB_METHOD"
taken: set[str] = set()  # the suites whose classes ours have replaced in this process
ROOT = Path(__file__).resolve().parents[2]


def make(place: Path) -> Path:
    """Make the environment; gives its interpreter, which finds all that this one finds."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    scheme = {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(ours)]
    lines += [str(ROOT), "import tests.stdlib.environment as e; e.take_place()"]
    (packages / "stdlib-suites.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(sysconfig.get_path("scripts", "venv", vars=scheme)) / "python"


def take_place() -> None:
    """Put our class in place of the standard one, as the environment variables say; not in our
    workers, where the tests' own functions run."""
    name = os.environ.get(SUITE)
    if name is None or any("andon._worker" in word for word in sys.orig_argv):
        return
    try:
        suites.suite(name).substitute()
        taken.add(name)  # a .pth file may be read more than once
    except BaseException:
        # Whatever a .pth file raises is printed, and passed over: and then the standard library's
        # tests would run against the standard library.
        traceback.print_exc()
        os._exit(1)
