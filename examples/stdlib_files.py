"""Lists the Python files of the standard library that runs this, separated by NUL bytes.

    python examples/stdlib_files.py                       all of them
    python examples/stdlib_files.py --with broken.py      with this one put among them

Files that are broken on purpose, as input of Python's own tests, are left out.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def stdlib_files() -> Iterator[Path]:
    """Every .py file of the standard library that is meant to be Python 3."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        installed = parts[0] in ("site-packages", "dist-packages")
        bad_on_purpose = "test" in parts and path.name.startswith("bad")
        python_2 = any("lib2to3" in part for part in parts) and "data" in parts
        if not (installed or bad_on_purpose or python_2):
            yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--with", dest="extra", type=Path, metavar="FILE")
    options = parser.parse_args()
    paths = list(stdlib_files())
    if options.extra:
        paths.insert(len(paths) // 3, options.extra)
    sys.stdout.write("".join(f"{path}\0" for path in paths))


if __name__ == "__main__":
    main()
