"""The command's own standard streams, also where one was closed or cannot take what is written."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


class OutputError(Exception):
    """Standard output cannot take what we say; `error` is the `OSError`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def stand_in() -> None:
    """Put the null device where a standard stream was closed (`2>&-`).

    Who closed it wants nothing of it, and that is no failure. Nor may what is opened next, a pipe
    to a worker or the results file, get the number that programs write their messages to.
    """
    with suppress(OSError):  # no null device: then as it was
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                # The lowest number that is free, and so this one.
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if sys.stdout is None:
            sys.stdout = _nowhere()
        if sys.stderr is None:
            sys.stderr = _nowhere()


def say(text: str) -> None:
    """Write to standard output, at once; `OutputError` where that fails."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _give_up(1)
        raise OutputError(error) from None


def tell(text: str) -> None:
    """Write to standard error. Where nobody can hear it, the exit status still tells."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _give_up(2)


def _give_up(number: int) -> None:
    # Python flushes once more on its way out, and would complain, or leave with its own status.
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _nowhere() -> TextIO:
    fd = os.open(os.devnull, os.O_WRONLY)  # open for good, as standard streams are
    return open(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
