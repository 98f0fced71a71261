"""Who is told: what a `progress=` argument asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from andon.outcome import Reason
from andon.report.bar import bar
from andon.report.progress import Progress, Reporter


def check_progress(progress: object) -> None:
    """Refuse what nobody can be told by."""
    # Most have none, and asking for the protocol is slow.
    if progress is None or isinstance(progress, bool) or callable(progress):
        return
    if not isinstance(progress, Reporter):
        raise TypeError(f"progress must be True, a callable or a reporter, not {progress!r}")


def reporter_for(progress: Any) -> Reporter | None:
    """The reporter that a `progress=` argument asks for.

    None and False: none. True: a bar on standard error. A `Reporter`: itself. A callable: it gets
    each `Progress`, the last one included.
    """
    check_progress(progress)
    if progress is None or progress is False:
        return None
    if progress is True:
        return bar()
    if isinstance(progress, Reporter):
        return progress
    return _Told(progress)


class _Told:
    """Passes each snapshot to the user's callable."""

    def __init__(self, tell: Callable[[Progress], object]) -> None:
        self._tell = tell

    def start(self, total: int | None) -> None:
        pass

    def update(self, snapshot: Progress) -> None:
        self._tell(snapshot)

    def finish(self, snapshot: Progress, reason: Reason | None) -> None:
        self._tell(snapshot)
