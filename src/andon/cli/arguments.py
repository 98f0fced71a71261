"""The words of the command line, checked before anything starts."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

START_METHODS = ("fork", "forkserver", "spawn") if hasattr(os, "fork") else ("spawn",)

SUMMARY = """\
usage: andon run [options] TARGET [ITEM ...]
       andon demo
       andon --version | --help

Run a function or a shell command once per item, in parallel; the first failure stops the line.

  run    see `andon run --help`
  demo   the shared-event recipe next to the same job with andon, in a few seconds
"""

RUN_USAGE = "andon run [options] TARGET [ITEM ...]"

RUN_HELP = """\
TARGET is what to run, once per ITEM:

  package.module:function   called with the item, a string
  file.py:function          the same, from a file
  'gzip -t {}'              a shell command; {} is the item, quoted; without {} it comes last

An item is quoted already: {} inside quotes is refused. Items are numbered from 0. Everything after
`--` is taken as it stands: `andon run work.py:check -- -odd-name-`.
"""

EXIT_HELP = """\
exit status: 0 all done; 1 a task failed, or the deadline passed; 2 bad usage; 130 Ctrl-C;
143 SIGTERM
"""


_NUMBERS = ("-j", "--workers", "--timeout", "--deadline", "--grace", "--kill-after")
_NEGATIVE = re.compile(r"-\.?\d")


class UsageError(Exception):
    """Bad usage: one clear line, exit status 2, and no process was started."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `andon run` was asked to do. `items` is None where `source` names where to read them."""

    target: str
    items: tuple[str, ...] | None
    source: str | None
    null: bool
    workers: int | None
    timeout: float | None
    deadline: float | None
    grace: float
    kill_after: float
    keep_going: bool
    start_method: str | None
    progress: bool
    output: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is run, demo, help or version; `text` the help asked for."""

    name: str
    options: RunOptions | None = None
    text: str = ""


def version() -> str:
    """The version of andon."""
    from importlib import metadata

    import andon

    found = getattr(andon, "__version__", None)
    if isinstance(found, str):
        return found
    try:
        return metadata.version("andon")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "(not installed)"


def parse(argv: Sequence[str]) -> Command:
    """Turn words into a `Command`, or raise `UsageError`."""
    if not argv:
        raise UsageError("nothing to do; try `andon run TARGET ITEM ...`, or `andon --help`")
    first, *rest = argv
    if first in ("-h", "--help", "help"):
        return Command("help", text=SUMMARY)
    if first in ("-V", "--version"):
        return Command("version")
    if first == "demo":
        if rest and rest[0] in ("-h", "--help"):
            return Command("help", text=SUMMARY)
        if rest:
            raise UsageError(f"andon demo takes no arguments, not {rest[0]!r}")
        return Command("demo")
    if first == "run":
        return _parse_run(rest)
    kind = "option" if first.startswith("-") else "command"
    raise UsageError(f"no such {kind}: {first!r}; try `andon run TARGET ITEM ...`")


def _parse_run(argv: Sequence[str]) -> Command:
    # What follows `--` never reaches argparse: its own handling of the two dashes differs between
    # Python versions once options and items are mixed.
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _run_parser()
    found = parser.parse_intermixed_args(_with_numbers(argv[:cut]))
    words = [*found.words, *argv[cut + 1 :]]
    if found.help:
        return Command("help", text=parser.format_help())
    if not words:
        raise UsageError("no TARGET; a target is package.module:function or 'a shell command {}'")
    target, *items = words
    if not target.strip():
        raise UsageError("TARGET is empty")
    if items and found.source is not None:
        raise UsageError("give items on the command line or with --from, not both")
    if not items and found.source is None:
        raise UsageError("no items; name them after TARGET, or use --from FILE (- is stdin)")
    if found.null and found.source is None:
        raise UsageError("--null says how --from is read; there is no --from")
    return Command(
        "run",
        RunOptions(
            target=target,
            items=tuple(items) if found.source is None else None,
            source=found.source,
            null=found.null,
            workers=found.workers,
            timeout=found.timeout,
            deadline=found.deadline,
            grace=found.grace,
            kill_after=found.kill_after,
            keep_going=found.keep_going,
            start_method=found.start_method,
            progress=found.progress,
            output="/dev/stdout" if found.output == "-" else found.output,
        ),
    )


def _with_numbers(argv: Sequence[str]) -> list[str]:
    """`--timeout -1` as `--timeout=-1`: argparse takes `-1` for an option, as `-0` is one."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in _NUMBERS and _NEGATIVE.match(word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if "unrecognized" in message:
            message += "; items that begin with a dash go behind --"
        raise UsageError(f"{message}; try `andon run --help`")


def _run_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="andon run",
        usage=RUN_USAGE,
        description=RUN_HELP,
        epilog=EXIT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    # TARGET and ITEM are one list to argparse, so that options may stand between them.
    parser.add_argument("words", nargs="*", metavar="TARGET ITEM", help=argparse.SUPPRESS)
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="show this and leave")
    add(
        "--from",
        dest="source",
        metavar="FILE",
        help="read the items from FILE, one a line, blank lines left out ('-': standard input)",
    )
    add(
        "-0",
        "--null",
        action="store_true",
        help="items in --from end with a NUL character, as from `find -print0`",
    )
    add(
        "-j",
        "--workers",
        type=_count,
        metavar="N",
        help="processes (default: the CPUs that this process may use)",
    )
    add(
        "--timeout",
        type=_some_seconds,
        metavar="SECONDS",
        help="longest time for one item; longer is a failure",
    )
    add("--deadline", type=_some_seconds, metavar="SECONDS", help="longest time for everything")
    add(
        "--grace",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="time that a task which checks its token gets to end by itself (default: 5)",
    )
    add(
        "--kill-after",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="time for clean-up after the interrupt (SIGTERM, for a shell command) before the "
        "kill (default: 2)",
    )
    add(
        "-k",
        "--keep-going",
        action="store_true",
        help="a failure does not stop the others; the exit status still tells",
    )
    add("--start-method", choices=START_METHODS, help="how worker processes are started")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a bar on a terminal, a line every few seconds elsewhere (default: yes)",
    )
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="write one line of JSON per item, also for those that failed or never started; only "
        "what a stop leaves unread in a pipe has none ('-': to standard output)",
    )
    return parser


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return value


def _seconds(text: str, *, zero: bool = True) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf or (value == 0 and not zero):  # also for nan
        least = "at least 0" if zero else "above 0"
        raise argparse.ArgumentTypeError(f"must be a number of seconds {least}, not {text!r}")
    return value


def _some_seconds(text: str) -> float:
    return _seconds(text, zero=False)
