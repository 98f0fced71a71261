"""What a worker says of a task: to its row while it runs, to its parent when it is over.

Invariants:
 1. All references to an item's arguments, value and error are dropped before the frame that
    ends it is sent: a `__del__` that kills the worker kills it within its own task. (Of a large
    value its bare buffers remain, from where they are sent.)
 2. A worker that was interrupted, or whose stopped task has left processes or threads behind,
    leaves (S51, S20): at once, or, where there is nobody to leave behind, when it is told to. A
    copy of the worker that a task forked off never answers in its name.
"""

from __future__ import annotations

import _thread
import os
import time
from typing import Any, NoReturn

from andon import _board, _wire
from andon._blame import explain
from andon._board import row as _row
from andon._buffers import lending
from andon._buffers.parcel import Parcel, Pickling
from andon._buffers.ring import Ring
from andon._pickling import dumps
from andon._traceback import Story, show
from andon._words import Said, as_text, describe, is_bare, is_plain, say, short
from andon._worker import children, linger, signals
from andon._worker.call import drop_traces, find_halt, flush_streams, tell_error, tell_place
from andon._worker.channel import Channel
from andon._worker.outbox import Outbox
from andon._worker.state import current

_NEVER_STARTED = "never-started"
_END_WITHIN = 0.05  # seconds: after SIGKILL


class Answers:
    """The lower half of the loop."""

    def __init__(
        self,
        channel: Channel,
        *,
        results: Ring | None = None,
        main_by_reference: dict[str, Any] | None = None,
        reuse_interrupted: bool = False,
    ) -> None:
        assert current.board is not None and current.row is not None
        self._channel = channel
        self._board = current.board
        self._row = current.row
        self._cells = self._row.cells
        self._tray = current.board.tray(self._row.number)
        self._outbox = Outbox(channel, self._tray)
        self._main = main_by_reference
        self._pickling = Pickling(main_by_reference, homeward=True)
        self._results = results
        self._reuse_interrupted = reuse_interrupted
        self._pid = current.pid
        self._spent = False
        self._children_before = children.living()
        channel.on_large = self._note_large

    # The row -------------------------------------------------------------------------------------

    def _note_large(self, kind: int, attempt: int, meta: Any) -> None:
        """Whoever dies of the bytes of a task dies under that task (S25)."""
        if kind in (_wire.CALL, _wire.SPAN):
            self._note_unpickling(attempt, meta[3])

    def _note_unpickling(self, attempt: int, index: int) -> None:
        cells = self._cells
        cells[_row.STARTED_NS] = 0
        cells[_row.USED] = 0
        cells[_row.SHIELD_UNTIL_NS] = 0
        cells[_row.INDEX] = index
        cells[_row.ATTEMPT] = attempt
        cells[_row.PHASE] = _row.UNPICKLING

    def _note_running(self, index: int) -> float:
        cells = self._cells
        self._threads_before = _thread._count()
        started = time.monotonic_ns()
        cells[_row.STARTED_NS] = started
        cells[_row.PHASE] = _row.RUNNING
        return started / 1e9

    def _note_ended(self) -> None:
        cells = self._cells
        cells[_row.PHASE] = _row.PICKLING
        cells[_row.SHIELD_UNTIL_NS] = 0
        cells[_row.TASKS_DONE] += 1

    # Answers -------------------------------------------------------------------------------------

    def _run_ended(
        self, kind: int, first: int, count: int, started: float, over: bool
    ) -> None:
        """So many items from `first` on returned values that lie in the tray; `over`: all did."""
        cells, tray = self._cells, self._tray
        cells[_row.TASKS_DONE] += count
        signals.reinstall()
        body = tray.raw(count)
        meta = (first, started, time.monotonic(), count, kind)
        if over:
            self._answer(_wire.VALUES, self._last(), meta, body)
        else:
            self._send(_wire.VALUES, 0, current.attempt, meta, body)

    def _item_ended(
        self,
        held: list[Any],
        index: int,
        started: float,
        fatal: int,
        last: bool,
        body: bytes | Parcel | None = None,
    ) -> bool:
        """Answer for one item, whose value may be pickled already; True where the attempt is over
        with it."""
        now = time.monotonic()
        self._check_self()
        self._note_ended()
        said: Said | None = None
        if fatal and held[1] is not None and not current.stopping():
            said = self._pull(held[1])  # before anything else (S11)
        signals.reinstall()
        end = self._last() if last or (current.interrupted and not self._reuse_interrupted) else 0
        stage = _wire.STAGE_CALL
        if held[1] is None and body is None:
            stage = _wire.STAGE_RESULT
            try:
                body = self._pickling.dumps(held[0])
            except BaseException as error:
                held[1] = error
        if held[1] is not None:
            halt = find_halt(held[1])  # also of a checkpoint in the value's own `__reduce__` (S52)
            if halt is None:
                return self._failure(held, index, started, stage, fatal, end, now, said)
            by, held[0] = halt
            halt = None
            self._halted(held, by, index, started, now, end)
            return True
        assert body is not None
        held.clear()
        if not end and current.cut_short():
            end = _wire.LAST
        size = body.size if isinstance(body, Parcel) else len(body)
        self._answer(_wire.VALUE, end, (index, started, now, size), body)
        return bool(end)

    def _last(self) -> int:
        """The flags of an attempt's last answer."""
        if current.interrupted and not self._reuse_interrupted:
            return _wire.LAST | _wire.RETIRING  # S51
        return _wire.LAST

    def _halted(
        self, held: list[Any], by: str, index: int, started: float, now: float, end: int
    ) -> None:
        """`held` is [the error of the clean-up or None, the whole error]; emptied here."""
        text: str | None = None
        where: Story | None = None
        body = b""
        if held[0] is not None:
            text = show(tell_error(held[0]))
            drop_traces(held[0])
            body, _ = self._dumps_error(held[0])
        elif self._board.is_clear(current.slot, current.clear):  # it alone: its time was up, say
            where = tell_place(held[1])
        drop_traces(held[1])
        held.clear()
        end |= _wire.LAST
        if not end & _wire.RETIRING and self._left_behind():
            end |= _wire.RETIRING  # what the task has started goes with us (S20)
        self._answer(_wire.STOPPED, end, (index, started, now, by, text, where), body)

    def _left_behind(self) -> bool:
        """Does anything still run that the task has started? A thread would go on with the work
        of a task that is over, and its checkpoints would speak for the next one."""
        return _thread._count() > self._threads_before or bool(
            children.living() - self._children_before
        )

    def _let_go(self) -> bool:
        """We are of no more use. Is there no thread that could go on, and could every process that
        was started be ended? Then what is left of the task once this returns is memory."""
        signals.hold()  # no handler of the task's own runs any more, nor raises in here
        if children.threads() != 1 or not children.end_all(_END_WITHIN):
            return False
        flush_streams()  # that may be code of the user's
        try:
            self._channel.close_others()
        except OSError:
            return False
        self._spent = True
        return True

    def _failure(
        self,
        held: list[Any],
        index: int,
        started: float | None,
        stage: str,
        fatal: int,
        end: int,
        now: float | None = None,
        said: Said | None = None,
    ) -> bool:
        """Tell first, format later (S11): the stop word, then the fact. True: attempt over.

        `held` is [what was made of the item so far, the error]; emptied before the answer.
        `said`: what the error has been asked for, if it has.
        """
        self._check_self()
        self._cells[_row.PHASE] = _row.PICKLING
        error: BaseException = held[1]
        if started is None and find_halt(error) is not None:
            held.clear()  # its arguments have looked whether they should stop: no failure (S16)
            self._never_started(index)
            return True
        name, text = said or (self._pull(error, stage) if fatal else say(error))
        if current.cut_short():
            end |= _wire.LAST
        message: Any = text
        if stage == _wire.STAGE_RESULT:
            told = explain(
                error,
                "the result",
                [("result", held[0])],
                self._main,
                caught=BaseException,  # a `__reduce__` may raise SystemExit as well
                to_worker=False,
            )[0]
            message = (told, text, short(held[0]))
        story = tell_error(error, as_text(name, text), pickling=stage == _wire.STAGE_RESULT)
        drop_traces(error)
        body = b""
        if stage == _wire.STAGE_CALL and is_bare(error):
            stage = _wire.STAGE_BARE
        elif stage == _wire.STAGE_CALL:
            body, why = self._dumps_error(error)
            if not body:
                stage, message = _wire.STAGE_EXCEPTION, (text, why)
        del error
        held.clear()
        if now is None:
            now = time.monotonic()
        self._answer(_wire.FAILURE, end, (index, started, now, stage, name, message, story), body)
        return bool(end & _wire.LAST)

    def _pull(self, error: BaseException, stage: str = _wire.STAGE_CALL) -> Said:
        """Pull the cord, unless it is: the siblings see it even while the parent is busy (S11)."""
        said = None if is_plain(error) else say(error)  # that may be code of the user's
        word = current.slot, current.clear
        first = self._board.pull_first(*word, _board.KIND_FAILURE, self._row)
        said = said or say(error)
        if first:
            text = as_text(*said)
            if stage != _wire.STAGE_CALL:
                text = f"{stage}: {text}"
            self._board.explain(*word, self._row, text)
            # On busy cores those whom the bell has woken stand behind us: the siblings' stop
            # comes before our report.
            linger.give_way()
        return said

    def _dumps_error(self, error: BaseException) -> tuple[bytes, str]:
        """The exception, or nothing where it cannot travel, and why: its text does in any case."""
        try:
            return dumps(error, self._main, homeward=True), ""
        except BaseException as worse:
            self._check_self()
            return b"", describe(worse)

    def _never_started(self, index: int) -> None:
        now = time.monotonic()
        self._answer(_wire.STOPPED, _wire.LAST, (index, None, now, _NEVER_STARTED, None, None), b"")

    def _cut_short(self) -> None:
        self._answer(_wire.DONE, _wire.LAST, (), b"")

    def _answer(self, kind: int, flags: int, meta: Any, body: bytes | Parcel) -> None:
        self._check_self()
        if flags & _wire.RETIRING and not isinstance(body, Parcel) and self._let_go():
            flags ^= _wire.RETIRING | _wire.SPENT
        cells = self._cells
        cells[_row.PHASE] = _row.SENDING
        attempt = current.attempt
        current.end()
        self._send(kind, flags, attempt, meta, body)
        if flags & _wire.RETIRING:
            self._leave()
        if flags & _wire.LAST:
            # The row goes on to say which attempt began here: should the answer prove unreadable,
            # nobody may take the task for one that never started (S13).
            cells[_row.PHASE] = _row.IDLE

    def _send(self, kind: int, flags: int, attempt: int, meta: Any, body: bytes | Parcel) -> None:
        try:
            if isinstance(body, Parcel):
                ticket = None if self._results is None else self._results.put(body)
                if ticket is None:  # no room, or too large for it: as it lies here
                    lending.settle()
                    self._outbox.send_parts(kind, flags, attempt, meta, body.bare())
                    return
                body.release()
                body = ticket
            if lending.lent:
                lending.settle()
            if kind == _wire.VALUE and not flags:
                self._outbox.lay(attempt, meta, body)
            else:
                self._outbox.send(kind, flags, attempt, meta, body)
        except BrokenPipeError:
            self._leave()

    def _flush(self) -> None:
        try:
            self._outbox.flush()
        except BrokenPipeError:
            self._leave()

    # The end -------------------------------------------------------------------------------------

    def _check_self(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a task has forked, and its child has come back into our code

    def _leave(self) -> NoReturn:
        self._check_self()
        # To end takes the kernel a millisecond; whom our answer has woken may stand behind us.
        linger.give_way()
        # May block on a reader that does not read; the parent waits `kill_after` at most (S21).
        flush_streams()
        os._exit(0)
