"""What becomes of a shell command, for all who tell of it; `command.py` runs it."""

from __future__ import annotations

import signal


class CommandError(Exception):
    """A shell command ended with a status other than 0.

    `status` is as in `subprocess`: negative for a signal. `tail` holds the last lines of what it
    wrote to its standard error.
    """

    def __init__(self, command: str, status: int, tail: str) -> None:
        super().__init__(command, status, tail)
        self.command = command
        self.status = status
        self.tail = tail

    def __str__(self) -> str:
        text = f"{ended(self.status)}: {self.command}"
        return f"{text}\n{self.tail}" if self.tail else text


def ended(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
