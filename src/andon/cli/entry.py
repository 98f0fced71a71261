"""The words on the command line, to the part of the command that does them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from andon.cli.arguments import UsageError, parse, version
from andon.cli.status import FAILED, OK, USAGE
from andon.cli.streams import OutputError, say, stand_in, tell


def dispatch(argv: Sequence[str] | None) -> int:
    """Parse, do, and turn what happened into an exit status."""
    stand_in()
    try:
        return _do(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        # One line, always: scripts log it, people read it.
        text = " ".join(str(error).split())
        tell(f"andon: error: {text}\n")
        return USAGE
    except OutputError as error:
        # Who stopped reading (`andon demo | head`) has seen what they wanted.
        if not isinstance(error.error, BrokenPipeError):
            tell(f"andon: error: standard output: {error.error.strerror}\n")
        return FAILED


def _do(argv: list[str]) -> int:
    command = parse(argv)
    if command.name == "version":
        say(f"andon {version()}\n")
        return OK
    if command.name == "help":
        say(command.text)
        return OK
    if command.name == "demo":
        from andon.cli.demo import demo

        return demo()
    from andon.cli.run import run

    assert command.options is not None
    return run(command.options)
