"""Progress in a notebook: one line that is written over, and needs no widgets.

A notebook's streams are no terminals, but all notebooks know a carriage return. The watcher asks
for ten drawings a second at most, so each is drawn. As with the others, what comes before `start`
or after `finish` is not shown.
"""

from __future__ import annotations

import threading
from typing import TextIO

from andon.outcome import Reason
from andon.report.progress import Progress

_CELLS = 24


def is_notebook(stream: TextIO) -> bool:
    """Is it a stream of a Jupyter kernel?"""
    return type(stream).__module__.partition(".")[0] == "ipykernel"


class NotebookBar:
    """A bar that is drawn in place by a carriage return."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._open = False
        self._width = 0  # of what was drawn last

    def start(self, total: int | None) -> None:
        with self._lock:
            self._open = True

    def update(self, snapshot: Progress) -> None:
        with self._lock:
            if self._open:
                self._draw(_line(snapshot))

    def finish(self, snapshot: Progress, reason: Reason | None) -> None:
        with self._lock:
            if self._open:
                self._open = False
                why = "" if reason is None else f"; stopped: {reason}"
                self._draw(f"{_line(snapshot)}{why}", "\n")

    def _draw(self, text: str, end: str = "") -> None:
        self._stream.write("\r" + text.ljust(self._width) + end)
        self._stream.flush()
        self._width = len(text)


def _line(snapshot: Progress) -> str:
    if not snapshot.total:
        return str(snapshot)
    full = min(_CELLS, _CELLS * snapshot.finished // snapshot.total)
    return f"{'█' * full}{'░' * (_CELLS - full)} {snapshot}"
