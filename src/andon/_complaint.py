"""What goes wrong beside all tasks is told to the program's log: that, too, runs code of others."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress

_log = logging.getLogger("andon")


def complain(what: str, *args: object) -> None:
    """Log the error that is being handled; where a handler or filter of the program raises, print
    it. Raises nothing: the threads that come here have others to serve, and a handler's SystemExit
    is none of theirs."""
    try:
        _log.exception(what, *args)
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
