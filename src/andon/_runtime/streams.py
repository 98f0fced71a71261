"""A map in flight: what it reads (see `reading.py`), and results in order or as they end.

    runtime ── take, take_run ──▶ pieces ── a piece ──▶ front ── one by one ──▶ consumer

Results come back in pieces, a run of successes or one other outcome, and are handed out piece by
piece: nothing is done for an item that could be done for many.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from andon._cancelled import Cancelled
from andon._runtime.groups import Group
from andon._runtime.reading import Reading, Source
from andon._runtime.tasks import Run, Task
from andon._runtime.wakeup import Wakeup
from andon.errors import GroupClosedError
from andon.outcome import Outcome, TaskState


class Stream(Reading, Iterator[Any]):
    """The results of `fn` over `items`, as an iterator; see `TaskGroup.map` for what users see.

    `ordered`: in the order of the input; otherwise as they end. `as_outcomes`: yields `Outcome`s,
    those of stopped items too, instead of values. `source` is read instead of `items`. `wakeup` is
    notified of all that a consumer who must not block wants to know: it asks `ready`, and takes.
    A thread reads what may block, and all input where the consumer must not. `gathers`: no result
    is wanted before the last (`take_all`).
    """

    def __init__(
        self,
        group: Group,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        star: bool = False,
        ordered: bool = True,
        as_outcomes: bool = False,
        chunksize: int | None = None,
        buffersize: int | None = None,
        timeout: float | None = None,
        source: Source | None = None,
        wakeup: Wakeup | None = None,
        gathers: bool = False,
    ) -> None:
        super().__init__(
            group,
            fn,
            items,
            star=star,
            chunksize=chunksize,
            buffersize=buffersize,
            timeout=timeout,
            source=source,
            wakeup=wakeup,
        )
        self._pacing.gathers = gathers
        self._ordered = ordered
        self._as_outcomes = as_outcomes
        self._ready: dict[int, Run | Outcome] = {}  # ordered: by the position of the first item
        self._done: deque[Run | Outcome] = deque()  # unordered
        self._resolved = 0
        self.started = False  # has anybody asked for a result?
        group.streams.append(self)
        group.on_stopping.append(self._on_stopping)
        # Set in the order of delivery: what ended before the decision is handed out before it.
        self._told = group.reason is not None
        self._begin()

    # The consumer's side -------------------------------------------------------------------------

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        try:
            if self.front or self.advance():
                return self.front.popleft()
        except Cancelled:
            group = self._group
            if not group.over:
                raise
            raise GroupClosedError(
                f"the group is over ({group.reason}); what it has done is in its `outcomes`"
            ) from None
        raise StopIteration

    def take_next(self) -> Any:
        """The result that is `ready`, or the error or end that is there instead; never blocks."""
        if self.front or self._bring():
            return self.front.popleft()
        raise StopIteration

    def advance(self, timeout: float | None = None) -> bool:
        """Bring the next piece to the front, which is used up; False at the end. Blocks up to
        `timeout` seconds, then raises `TimeoutError`."""
        if not self.wait(timeout):
            raise TimeoutError("no result was ready in time")
        return self._bring()

    def _bring(self, into: deque[Any] | list[Any] | None = None) -> bool:
        """Take the next piece there, or to the front; False where there is none."""
        into = self.front if into is None else into
        stopping = self._stopping()  # before the last look: what ended before that, is there
        piece = self._pop()
        if piece is None:
            if self._error is not None:
                raise self._error
            if stopping:
                self._group.runtime.check_crash()
                if self._group.reason is None:
                    self._check_read()
                else:
                    self._group.raise_cancelled()
            return False
        self._popped += len(piece.values) if isinstance(piece, Run) else 1
        if self._as_outcomes:
            into.extend(piece.outcomes() if isinstance(piece, Run) else (piece,))
        elif isinstance(piece, Run):
            into.extend(piece.values)
        elif self._group.reason is None and piece.state is TaskState.FAILED:
            into.append(piece.error)  # the policy collects them: in the value's place
        else:
            self._group.raise_cancelled()
        self._room.notify()
        return True

    def wait(self, timeout: float | None) -> bool:
        """Block until there is something to tell, a result, an error or the end; False after
        `timeout` seconds."""
        self._group.runtime.check_wait()
        self.started = True
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                if self._thread is None and self._error is None:
                    self._fill()
                elif self._hungry():
                    self._send_inbox()  # its reader is held up by the input
            except BaseException as error:  # of the input: for `advance` to raise
                self._error = error
            if self.ready():
                return True
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._wakeup.wait(self._has_news, left):
                return False

    def bring_left(self) -> bool:
        """The group is stopping: bring what was not handed out to the front, as it ends, unless
        results are to come in order, and one before them is missing. False where there is no more.
        Blocks, for as long as the ladder."""
        runtime = self._group.runtime

        def all_told() -> bool:
            return self._resolved >= self._submitted or runtime.crashed is not None

        over = self._ordered or self._as_outcomes
        while not (over or self.front):
            self._wakeup.wait(lambda: bool(self._done) or all_told())
            over = all_told()  # before the last look
            while (piece := self._pop()) is not None:
                if isinstance(piece, Run):
                    self.front.extend(piece.values)
        return bool(self.front)

    def take_all(self) -> list[Any]:
        """All results that are left, to the end; blocks."""
        results = list(self.front)
        self.front.clear()
        while self.wait(None) and self._bring(results):
            pass
        return results

    def drain(self) -> None:
        """Read and run everything, keeping no results: nobody will ask for them."""
        while self.advance():
            self.front.clear()
        if self._popped:
            self._error = GroupClosedError(
                "the group is over, and nobody has taken these results in its body; they are in "
                "its `outcomes`"
            )

    def close(self) -> None:
        """Read no more input; what was submitted goes its way."""
        self.stop_reading()
        thread = self._thread
        if thread is not None and not self._reading:
            thread.join(1.0)

    def stop_reading(self) -> None:
        """As `close`, but does not wait for the thread that reads."""
        self._closed = True
        if self._source is not None:
            self._source.close()
        self._room.notify()

    def let_go(self) -> None:
        """Nobody has asked for a result, or will: what was submitted goes its way."""
        self._group.runtime.leave_body(self._group)

    def __del__(self) -> None:
        self._closed = True
        room = getattr(self, "_room", None)
        if room is not None:
            room.notify()

    def ready(self) -> bool:
        """Is there something to tell: a result, an error or the end?"""
        return (
            bool(self.front)
            or (self._popped in self._ready if self._ordered else bool(self._done))
            or self._error is not None
            or self._stopping()
            or self._is_over()
        )

    @property
    def exhausted(self) -> bool:
        """Is all input read?"""
        return self._exhausted

    @property
    def hungry(self) -> bool:
        """Is a worker free that could have what has been read, while the reader is held up by the
        input? Whoever waits for results sees to it: `send_waiting`."""
        return self._thread is not None and self._error is None and self._hungry()

    def send_waiting(self) -> None:
        """Send what has been read. Pickles."""
        try:
            self._send_inbox()
        except BaseException as error:  # for `take_next` to raise
            self._error = error
            self._wakeup.notify()

    def _pop(self) -> Run | Outcome | None:
        if self._ordered:
            return self._ready.pop(self._popped, None)
        try:
            return self._done.popleft()
        except IndexError:
            return None

    def _has_news(self) -> bool:
        if self.ready():
            return True
        return self._wants_more() if self._thread is None else self._hungry()

    def _stopping(self) -> bool:
        """Is the group stopping, so that nothing more will be handed out?"""
        group = self._group
        if group.runtime.crashed is not None:
            return True
        if not self._told or not group.told:
            return False
        return not self._as_outcomes or self._resolved == self._submitted

    def _check_read(self) -> None:
        """The group has closed, and all results of what was submitted are handed out. Raises where
        there was more to read (S14)."""
        unsent = self._unsent or self._inbox or not self._exhausted
        if unsent and self._length is None:
            raise GroupClosedError(
                "the group is over, and what was not read of the input never will be: take the "
                "results in its body"
            )
        if self._length is not None and self._submitted < self._length:
            raise GroupClosedError(
                f"the group is over, with {self._submitted} of {self._length} items: take the "
                "results in its body, where the rest is read"
            )

    def _is_over(self) -> bool:
        return self._exhausted and self._popped == self._submitted and not self._inbox

    # The sink's side: called at delivery, by one thread at a time --------------------------------

    def take(self, task: Task, outcome: Outcome) -> None:
        """One item is over."""
        self._resolved += 1
        if outcome.started_at is not None and outcome.ended_at is not None:
            self._pacing.measured(outcome.ended_at - outcome.started_at)
        self._lay(task, outcome.index, outcome)

    def take_run(self, task: Task, run: Run) -> None:
        """Items are over, and have succeeded."""
        count = len(run.values)
        self._resolved += count
        self._pacing.measured((run.ended_at - run.started_at) / count, run.size // count)
        self._lay(task, run.index, run)

    def _lay(self, task: Task, index: int, piece: Run | Outcome) -> None:
        if self._ordered:
            self._ready[index + self._offsets[task.id]] = piece
        else:
            self._done.append(piece)
        if not self._pacing.gathers:
            self._wakeup.notify()

    def broken(self, error: BaseException) -> None:
        """andon itself failed."""
        self._error = error
        self._wakeup.notify()

    def _on_stopping(self) -> None:
        self._told = True
        self._wakeup.notify()
        self._room.notify()
