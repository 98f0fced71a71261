"""Is there room on the stack? Near the end of a recursion any call may raise, also in the middle of
the machine, and that would be the end of a pool. So whoever comes from user code looks first: the
RecursionError of one caller is that caller's alone."""

from __future__ import annotations

import sys

# Calls that must be left. Whoever could open a group can submit to it; who could submit, can stop.
TO_OPEN, TO_SUBMIT, TO_STOP = 100, 70, 40
_SHALLOW = 4  # a stack of less than this part of the limit has room


def check_room(calls: int) -> None:
    """Raise RecursionError where so many calls more are too many."""
    if not _is_shallow(_SHALLOW):
        _descend(calls)


def has_room() -> bool:
    """Is there enough to tell what has come of tasks?"""
    try:
        check_room(TO_STOP)
    except RecursionError:
        return False
    return True


def has_much_room() -> bool:
    """Is the stack not half full? Enough for user code that unpickles somebody's result."""
    return _is_shallow(2)


def _is_shallow(part: int) -> bool:
    try:
        sys._getframe(sys.getrecursionlimit() // part)
    except ValueError:
        return True
    return False


def _descend(calls: int) -> None:
    if calls:
        _descend(calls - 1)
