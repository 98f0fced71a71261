"""Runs a case with the standard pools, then with ours, and compares all that can be seen."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.programs.cases import Case, normal

SHIM = Path(__file__).with_name("shim")
LIMIT = 120.0  # seconds for one run
POOLS = ("standard", "andon")


@dataclass(frozen=True)
class Seen:
    """What a run has shown."""

    status: int
    out: str
    err: str
    files: str
    opened: list[str]


def run(case: Case, whose: str, where: Path) -> Seen:
    """One run, in a fresh directory that has the same name each time."""
    place, home = where / "place", where / "home"
    for each in (place, home):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    case.files(place)
    opened = home / "opened"
    opened.touch()
    # Unbuffered, two workers' lines would be torn, and differently each time.
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        "PYTHONPATH": str(SHIM),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "ANDON_PROGRAMS_POOLS": whose,
        "ANDON_PROGRAMS_OPENED": str(opened),
    }
    for name in ("PYLINTHOME", "BLACK_CACHE_DIR"):
        environment[name] = str(home / name)
    done = subprocess.run(
        [sys.executable, *case.arguments],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return Seen(
        done.returncode,
        normal(done.stdout, case),
        normal(done.stderr, case),
        "\n".join(files(place)),
        opened.read_text().splitlines(),
    )


def files(where: Path) -> Iterator[str]:
    """Every file below, with a digest; of compiled code its name, since it holds the time."""
    for path in sorted(where.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(where))
            digest = "" if path.suffix == ".pyc" else hashlib.sha256(path.read_bytes()).hexdigest()
            yield f"{name} {digest}"


def differences(case: Case) -> list[str]:
    """What differs, as text; empty where all is the same."""
    with tempfile.TemporaryDirectory() as where:
        try:
            theirs, ours = (run(case, whose, Path(where)) for whose in POOLS)
        except subprocess.TimeoutExpired as error:
            return [f"a run did not end within {error.timeout:g} s"]
    found = []
    for seen, whose in ((theirs, "standard"), (ours, "andon")):
        if {line.split()[0] for line in seen.opened} != {whose}:
            found.append(f"with the {whose} pools, these were opened: {seen.opened}")
    if theirs.status != case.status:
        found.append(
            f"the standard pools end with {theirs.status}, not {case.status}: is it the same case?"
            f"\n{theirs.out[-2000:]}\n{theirs.err[-2000:]}"
        )
    if ours.status != theirs.status:
        found.append(f"exit status {ours.status}, not {theirs.status}")
    for name in ("out", "err", "files"):
        if getattr(ours, name) != getattr(theirs, name):
            lines = difflib.unified_diff(
                getattr(theirs, name).splitlines(),
                getattr(ours, name).splitlines(),
                f"{name}, standard",
                f"{name}, andon",
                lineterm="",
                n=1,
            )
            found.append("\n".join(list(lines)[:60]))
    return found
