"""What workers have put into queues, and nobody reads: how long it is waited for, and the warning
when that is over."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

FLUSH_WITHIN = 10.0  # seconds, where nobody has asked to wait for as long as it takes


def warn_unread() -> None:
    """Workers were ended that still had something to send. The warning stands at the line of the
    program that has called us; raises it where the program's filters make an error of it."""
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
        level += 1
    warnings.warn(
        f"{FLUSH_WITHIN:g} s after the last task, workers still waited for somebody to read what "
        "tasks had put into a queue of multiprocessing. They were ended, and what they had not "
        "sent is lost; of one item a part may have been sent, and whoever reads that waits for "
        "the rest for ever. Read the queue in the body of the group, or in a thread beside it; or "
        "use a Pool, whose close() and join() wait for the reader",
        RuntimeWarning,
        stacklevel=level,
    )


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == __package__.partition(".")[0]
