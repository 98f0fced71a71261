"""Orders to a worker that no signal can reach: bytes in its lifeline (see `_worker/orders.py`)."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from andon._threads import start


class Orders:
    """Our end of the pipe. An order would block where the worker has not read thousands of them:
    so a thread gives it, and while one waits no other is given."""

    def __init__(self) -> None:
        self.reading_end, self._fd = os.pipe()
        self._giver: threading.Thread | None = None

    def give(self, order: bytes) -> None:
        """Give it some time; never blocks."""
        if self._fd >= 0 and not self._is_waiting():
            self._giver = threading.Thread(target=self._write, args=(order,), daemon=True)
            start(self._giver)

    def _is_waiting(self) -> bool:
        return self._giver is not None and self._giver.is_alive()

    def _write(self, order: bytes) -> None:
        with suppress(OSError):  # it is gone
            os.write(self._fd, order)

    def handed_over(self) -> None:
        """The worker has its end: ours of it goes, so that the worker's death is the pipe's."""
        os.close(self.reading_end)

    def close(self) -> None:
        """No more orders."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and not self._is_waiting():  # else that thread waits for one that cannot die
            os.close(fd)
