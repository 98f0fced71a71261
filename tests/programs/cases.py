"""What is run: which programs, on what files, and what of their output has no order."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "src" / "andon"

BROKEN = "import sys\n\n\ndef half_a_function(:\n"
MESSY = """\
import sys, os
from zipfile import ZipFile
import json
def messy( a,b = 2 ):
    unused=  1
    return {'a':a,
      'b':b   }
"""


@dataclass(frozen=True)
class Case:
    """One run of a program. `arguments` follow the interpreter; `files` make its directory."""

    program: str
    what: str
    arguments: tuple[str, ...]
    files: Callable[[Path], None]
    status: int  # what the standard pools end with; it shows that the case is what it says
    ordered: bool = True  # are the lines of its output in a defined order?


def clean(where: Path) -> None:
    """The sources of andon."""
    shutil.copytree(CORPUS, where / "andon", ignore=shutil.ignore_patterns("__pycache__"))
    for path in where.rglob("*.py"):
        os.utime(path, (1e9, 1e9))


def faulty(where: Path) -> None:
    """All, and two files with faults."""
    clean(where)
    for name, text in (("broken", BROKEN), ("messy", MESSY)):
        path = where / "andon" / f"{name}.py"
        path.write_text(text)
        os.utime(path, (1e9, 1e9))


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", name, *arguments)


# As ruff has formatted them, so that some runs find nothing to say.
_BLACK = ("--workers=2", "--line-length=100")
_ISORT = ("-j2", "--profile=black", "-l100")
_FLAKE8 = ("-j2", "--max-line-length=100", "--extend-ignore=E203,E262,E704,W391")
_SOME = ("andon/_core", "andon/_board", "andon/errors.py", "andon/policy.py")  # pylint is thorough
_FORMATTED = ("andon/_board", "andon/cli")
_BAD = ("andon/broken.py", "andon/messy.py")
# Which of two files it shows depends on which worker has read them, with any pool.
_PYLINT = ("-j2", "--disable=duplicate-code")
_MAP = str(Path(__file__).with_name("process_map.py"))
_FILES = tuple(f"andon/{name}.py" for name in ("errors", "outcome", "pool", "policy", "token"))

CASES = [
    # Its workers print, and so do those of black and isort: the order is as it comes.
    Case("compileall", "clean", _module("compileall", "-j2", "andon"), clean, 0, False),
    Case("compileall", "faults", _module("compileall", "-j2", "andon"), faulty, 1, False),
    Case("compileall", "quiet", _module("compileall", "-qq", "-j2", "andon"), faulty, 1, False),
    Case("black", "check", _module("black", *_BLACK, "--check", *_FORMATTED), clean, 0, False),
    Case("black", "diff", _module("black", "--workers=2", "--diff", "andon"), clean, 0, False),
    Case("black", "write", _module("black", "--workers=2", "andon"), faulty, 123, False),
    Case("isort", "check", _module("isort", *_ISORT, "-c", *_SOME), clean, 0, False),
    Case("isort", "faults", _module("isort", "-j2", "-c", "andon"), faulty, 1, False),
    # No --diff, and -q: what the workers print on standard output is lost with the standard pool,
    # all or some of it, since that kills them before they have flushed it.
    Case("isort", "write", _module("isort", "-j2", "-q", "andon"), faulty, 0, False),
    Case("pylint", "clean", _module("pylint", *_PYLINT, "-E", *_SOME), clean, 0),
    Case("pylint", "faults", _module("pylint", *_PYLINT, *_SOME, *_BAD), faulty, 30),
    Case("flake8", "clean", _module("flake8", *_FLAKE8, *_SOME), clean, 0),
    Case("flake8", "faults", _module("flake8", "-j2", "--statistics", "andon"), faulty, 1),
    Case("process_map", "clean", (_MAP, *_FILES), clean, 0),
    Case("process_map", "faults", (_MAP, *_FILES[:3], "nowhere.py", *_FILES[3:]), clean, 3),
]

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+")  # "now", in the head of a diff
_BAR = re.compile(r"[^\r\n]*\| (\d+)/(\d+) \[[^\r\n]*")  # a bar's drawings, and its pace


def normal(text: str, case: Case) -> str:
    """Without what differs between any two runs, and how far a bar comes when something fails:
    with andon the first failure stops the rest, on purpose."""
    text = _TIME.sub("<now>", text)
    text = text.replace("\r", "\n") if _BAR.search(text) else text
    lines = []
    for line in text.splitlines():
        match = _BAR.fullmatch(line)
        if match:
            # How often it is drawn is a matter of time; where it ends is not.
            line = "bar: " + (f"{match[1]} of {match[2]}" if case.status == 0 else "stopped")
            if lines and lines[-1].startswith("bar: "):
                lines.pop()
        lines.append(line)
    return "\n".join(lines if case.ordered else sorted(lines))
