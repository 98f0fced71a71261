"""The `andon` command.

    arguments --> target (what to call)  --+
              --> items (with what)      --+--> run --> results.jsonl, summary, exit status
                                                 |
    in a worker: the function itself, or `command` running one of the shell for it

This file stays light: workers import it on their way to `andon.cli.command`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's own); return its exit status.

    0: all went well. 1: a task failed, or the deadline passed. 2: bad usage. 130: Ctrl-C.
    143: SIGTERM.
    """
    try:
        from andon.cli.entry import dispatch

        return dispatch(argv)
    except KeyboardInterrupt:  # outside of a run, which has its own way with it
        if sys.stderr is not None:
            sys.stderr.write("andon: interrupted\n")
        return 130
