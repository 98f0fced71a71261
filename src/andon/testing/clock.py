"""A clock that moves only when it is told to, so that tests about time never sleep."""

from __future__ import annotations


class VirtualClock:
    """Seconds on a clock of its own; `now` stands in for `time.monotonic`.

        >>> clock = VirtualClock()
        >>> clock.advance(1.5)
        >>> clock.now()
        1.5

    Nothing here blocks. It never goes backwards: that raises ValueError.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)

    def now(self) -> float:
        """What the clock shows, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.advance_to(self._now + seconds)

    def advance_to(self, at: float) -> None:
        """Let time pass until the clock shows `at`."""
        if not at >= self._now:
            raise ValueError(f"the clock shows {self._now}; it cannot go back to {at}")
        self._now = float(at)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:g} s>"
