"""`--output`: one line of JSON per item, written as the items end.

    {"index": 0, "item": "a.csv", "state": "succeeded", "value": 12, "error": null,
     "cleanup_error": null, "started": true, "stopped_by": null, "seconds": 0.25, "stack": null}

`value` is the value itself where JSON can hold it, else its `repr` (see `task`). `error` is null or
`{"type", "message", "traceback"}`. `stack` is where a killed task stood. All keys are always there.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, TextIO

from andon.cli.arguments import UsageError
from andon.errors import RemoteTraceback, TaskTimeoutError
from andon.outcome import Outcome, TaskState


class Results(AbstractContextManager["Results"]):
    """The results file. Each line is handed to the system as soon as it is written."""

    def __init__(self, stream: TextIO, path: str) -> None:
        self._stream = stream
        self._path = path

    def write(self, outcome: Outcome, item: str) -> None:
        """Write the line of one item; `OSError`, which names the file, where that fails."""
        # ASCII throughout: a file name that is not valid UTF-8 comes as lone surrogates, which
        # JSON can only hold escaped.
        line = json.dumps(record(outcome, item), allow_nan=False) + "\n"
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError as error:
            error.filename = self._path
            raise

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):  # what `write` could not write, it has told
            self._stream.close()


def open_results(
    path: str | None, source: str | None = None, items: Iterable[str] | None = None
) -> Results | None:
    """The results file at `path`, emptied; `UsageError` where it cannot be opened.

    `source` is where the items come from, `-` for standard input, or these are the `items`: the
    same file would be emptied unread. The file that our own standard output or error goes to
    (/dev/stdout, most of all) is not emptied: the lines stand among what tasks print there.
    """
    if path is None:
        return None
    try:
        there = _found(path)
        if there is not None:
            if source is not None and not stat.S_ISCHR(there.st_mode) and _is(there, source):
                raise UsageError(f"--output {path}: that is the file the items come from")
            if stat.S_ISREG(there.st_mode) and any(_is_item(there, item) for item in items or ()):
                raise UsageError(f"--output {path}: that is one of the items, and would be emptied")
            fd = _our_own(there)
            if fd is not None:
                return _results(fd, path)
        # No temporary name beside it: a FIFO works as well as a file.
        return _results(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output {path}: {getattr(error, 'strerror', None) or error}") from None


def _results(fd: int, path: str) -> Results:
    return Results(open(fd, "w", encoding="ascii"), path)


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _is(there: os.stat_result, source: str) -> bool:
    items = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source)
    return os.path.samestat(there, items)


def _is_item(there: os.stat_result, item: str) -> bool:
    try:
        return os.path.samestat(there, os.stat(item))
    except (OSError, ValueError):
        return False


def _our_own(there: os.stat_result) -> int | None:
    """A descriptor for what we have open already, so that both share one place in the file."""
    if stat.S_ISCHR(there.st_mode) or stat.S_ISFIFO(there.st_mode):
        return None  # they have no place, and an own descriptor blocks as it should
    for number in (1, 2):
        with suppress(OSError):  # closed, or open for reading only
            if os.path.samestat(there, os.fstat(number)):
                os.write(number, b"")
                return os.dup(number)
    return None


def record(outcome: Outcome, item: str) -> dict[str, Any]:
    """The line of one item, as a dictionary."""
    seconds = None
    if outcome.started_at is not None and outcome.ended_at is not None:
        seconds = round(outcome.ended_at - outcome.started_at, 6)
    failed = outcome.state is TaskState.FAILED
    return {
        "index": outcome.index,
        "item": item,
        "state": str(outcome.state),
        "value": outcome.value if outcome.ok else None,
        "error": _error(outcome.error) if failed else None,
        "cleanup_error": _error(outcome.cleanup_error),
        "started": outcome.started,
        "stopped_by": None if outcome.stopped_by is None else str(outcome.stopped_by),
        "seconds": seconds,
        "stack": outcome.stack,
    }


def error_type(error: BaseException) -> str:
    """The error's type, with its module where it is not a built-in."""
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def error_message(error: BaseException) -> str:
    """`str(error)`, also where that itself raises; of a timeout without the call, which is ours."""
    if isinstance(error, TaskTimeoutError):
        return f"ran longer than its timeout of {error.timeout:g} s"
    try:
        return str(error)
    except Exception as second:
        return f"<no message: str() raised {type(second).__name__}>"


def remote_traceback(error: BaseException) -> str | None:
    """The traceback from the worker, as text, from the user's own first frame on."""
    cause = error.__cause__
    if not isinstance(cause, RemoteTraceback):
        return None
    return _NO_FRAMES.sub("", _OURS.sub(r"\1", cause.text))


HEADER = "Traceback (most recent call last):\n"
_NO_FRAMES = re.compile(rf"^{re.escape(HEADER)}(?! )")
# The frames of this package at the start of a traceback: the worker takes them for the user's.
_OURS = re.compile(
    r"^((?:  \+ Exception Group )?Traceback \(most recent call last\):\n)"
    rf'(?:(?:  \| )?  File "{re.escape(os.path.dirname(__file__))}.*\n(?:(?:  \| )?    .*\n)*)+',
    re.MULTILINE,
)


def _error(error: BaseException | None) -> dict[str, str | None] | None:
    if error is None:
        return None
    return {
        "type": error_type(error),
        "message": error_message(error),
        "traceback": remote_traceback(error),
    }
