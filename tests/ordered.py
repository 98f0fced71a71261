"""This process as a worker whose task is to be interrupted: for tests that call the handler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from andon._board import own_board
from andon._board.row import ORDER_ATTEMPT, ORDER_LEVEL
from andon._gate import gate
from andon._worker.state import current

_ATTEMPT = 7


@contextmanager
def ordered() -> Iterator[None]:
    """Within, the ladder is at step 2 for the task that runs, and that is in code of its own."""
    board = own_board()
    row = board.allot_row()
    hook = current.body_hook
    current.sit(board, row)
    current.begin(_ATTEMPT, slot=-1, clear=0, index=0)
    current.cells[ORDER_ATTEMPT], current.cells[ORDER_LEVEL] = _ATTEMPT, 2
    gate.user = True
    try:
        yield
    finally:
        gate.user = False
        current.reset()
        current.body_hook = hook
        board.free_row(row)
