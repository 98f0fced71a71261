"""What a worker is told first: how things are with its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from andon._board import Board
from andon._engines.port import Config
from andon._worker import records, warned
from andon._worker.state import current


def settings(config: Config, row_number: int, boards: Sequence[Board]) -> dict[str, Any]:
    """Built-in values only."""
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = ""
    return {
        "sys_path": [p for p in sys.path if type(p) is str],
        "cwd": cwd,
        "environ": _environment(config.env),
        "warnings": warned.filters(),
        "logging": records.snapshot(),
        "argv": [str(arg) for arg in getattr(sys, "argv", ())],  # not where Python is embedded
        "row": row_number,
        "boards": [board.ident for board in boards],
        "level": current.level + 1,
        "start_method": config.start_method,
        "reuse_interrupted": config.reuse_interrupted,
    }


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """As it is now, with these changes; other threads may change it meanwhile."""
    while True:
        try:
            found = dict(os.environ)
        except (KeyError, RuntimeError):
            continue
        for name, value in changes.items():
            found.pop(name, None)
            if value is not None:
                found[name] = value
        return found
