"""Which boards this process reads: its own, and those of its ancestors.

Invariants:
 1. A process allots only on its own board. A forked child's own is a new one; what it inherited
    it goes on reading and pulling, as one that joined.
 2. A board keeps its object through a fork: tokens that were inherited stay valid, and equal to
    those that arrive by pickle.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Iterable

from andon._board.board import Board

_boards: dict[str, Board] = {}  # the own one first, once made, then parent, grandparent, …
_own: Board | None = None
_lock = _thread.allocate_lock()


def own_board() -> Board:
    """This process's own board, made when first asked for."""
    global _own, _boards
    board = _own
    if board is None:
        # An exception out of a signal handler may hit between any two lines: at worst the board
        # made here is dropped and another is made.
        made = Board.create()
        with _lock:
            if _own is None:
                _own = made
                _boards = {made.ident: made, **_boards}
            board = _own
        if board is not made:
            made.close()
    return board


def joined() -> list[Board]:
    """Every board that this process reads: its own first (if made), then its ancestors'."""
    return list(_boards.values())


def find(ident: str) -> Board | None:
    """The board of that name, if this process can read it."""
    return _boards.get(ident)


def adopt(entries: Iterable[tuple[str, int, int]]) -> list[Board]:
    """In a worker: read these boards (ident, memory, bell), the parent's own first."""
    global _own, _boards
    taken: dict[str, Board] = {}
    for ident, mem_fd, bell_fd in entries:
        board = _boards.get(ident)
        if board is None:
            board = Board.join(ident, mem_fd, bell_fd)
        else:
            # Inherited by fork. The descriptors handed over lie high, out of the way of tasks
            # that close the low ones; the old numbers may by now be someone else's.
            board.mem_fd, board.bell_fd = mem_fd, bell_fd
        taken[ident] = board
    _own = None
    _boards = {**taken, **{i: b for i, b in _boards.items() if i not in taken}}
    return list(taken.values())


def _after_fork_in_child() -> None:
    global _own, _lock
    _own = None
    _lock = _thread.allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
