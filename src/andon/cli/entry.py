"""The words on the command line, to the part of the command that does them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from andon.cli.arguments import UsageError, parse, version
from andon.cli.status import FAILED, OK, USAGE


def dispatch(argv: Sequence[str] | None) -> int:
    """Parse, do, and turn what happened into an exit status."""
    try:
        return _do(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        # One line, always: scripts log it, people read it.
        text = " ".join(str(error).split())
        print(f"andon: error: {text}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # Our own standard output is gone (`andon demo | head`). Python would complain once more
        # when it flushes it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED


def _do(argv: list[str]) -> int:
    command = parse(argv)
    if command.name == "version":
        print(f"andon {version()}")
        return OK
    if command.name == "help":
        print(command.text, end="")
        return OK
    if command.name == "demo":
        from andon.cli.demo import demo

        return demo()
    from andon.cli.run import run

    assert command.options is not None
    return run(command.options)
