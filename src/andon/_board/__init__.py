"""The board: one page of shared memory that every station of the line can read.

    Board            stop words (one per token) and rows (one per worker), and a bell
    RowView          one worker's row, field by field
    TrayView         the tray beside it: values that are to be sent
    wait_any         sleep until a condition that a bell announces is true
    own_board        the board on which this process hangs its own tokens and workers
    joined           every board that this process reads: its own first, then its ancestors'
    find, adopt      by ident; take over those that a parent handed down

Nothing here blocks but `wait_any` (and `Board.wait`).
"""

from __future__ import annotations

from andon._board.bell import LONGEST, POLL_SECONDS, wait_any
from andon._board.board import WORDS, Board, Pulled
from andon._board.registry import adopt, find, joined, own_board
from andon._board.row import (
    BOOTING,
    IDLE,
    INITIALISING,
    PHASES,
    PICKLING,
    ROWS,
    RUNNING,
    SENDING,
    UNPICKLING,
    RowView,
)
from andon._board.tray import TrayView

# The codes of the reasons in a stop word: in the order of `ReasonKind`, from 1.
KIND_FAILURE, KIND_BODY, KIND_CANCEL, KIND_DEADLINE = 1, 2, 3, 4
KIND_INTERRUPT, KIND_SHUTDOWN, KIND_PARENT, KIND_SUPERSEDED = 5, 6, 7, 8

__all__ = [
    "BOOTING",
    "IDLE",
    "INITIALISING",
    "KIND_BODY",
    "KIND_CANCEL",
    "KIND_DEADLINE",
    "KIND_FAILURE",
    "KIND_INTERRUPT",
    "KIND_PARENT",
    "KIND_SHUTDOWN",
    "KIND_SUPERSEDED",
    "LONGEST",
    "PHASES",
    "PICKLING",
    "POLL_SECONDS",
    "ROWS",
    "RUNNING",
    "SENDING",
    "UNPICKLING",
    "WORDS",
    "Board",
    "Pulled",
    "RowView",
    "TrayView",
    "adopt",
    "find",
    "joined",
    "own_board",
    "wait_any",
]
