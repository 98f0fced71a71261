"""A worker's life: read a request, execute it, answer. One thread, blocking; nothing is shared.

Invariants:
 1. Every CALL and SPAN is answered by frames of its attempt, exactly one of which, the final one,
    carries LAST; every item that began has its own frame (S45).
 2. The row says RUNNING, and of what, before the last look at the stop word, and the call comes
    right after that look: whoever pulls the word and then reads the row knows (S12, S13).
 3. All references to an item's arguments, value and error are dropped before the frame that
    ends it is sent: a `__del__` that kills the worker kills it within its own task.
 4. A worker that was interrupted, or whose stopped task has left processes or threads behind,
    retires (S51, S20). A copy of the worker that a task forked off never answers in its name.
"""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

from andon import _board, _multiprocessing, _pickling, _wire
from andon._board import row as _row
from andon._pickling import describe, dumps, loads, message_of, type_name
from andon._traceback import show
from andon._worker import children, signals
from andon._worker.call import (
    careful_call,
    drop_traces,
    find_halt,
    flush_streams,
    tell_error,
)
from andon._worker.channel import Channel
from andon._worker.state import BY_TOKEN, current

_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: None)
_WARM_AFTER = 0.005  # seconds without a request
_NEVER_STARTED = "never-started"


class Loop:
    """One worker, booted: `run()` never returns."""

    def __init__(
        self,
        channel: Channel,
        *,
        main_by_reference: dict[str, Any] | None = None,
        reuse_interrupted: bool = False,
    ) -> None:
        assert current.board is not None and current.row is not None
        self._channel = channel
        self._board = current.board
        self._row_number = current.row.number
        self._cells = current.row.cells
        self._main = main_by_reference
        self._reuse_interrupted = reuse_interrupted
        self._pid = current.pid
        self._functions: dict[int, Callable[..., Any] | bytes | None] = {}
        self._loaded: set[int] = set()
        self._children_before = children.living()
        channel.on_large = self._note_large

    def run(self) -> NoReturn:
        """Until the parent says RETIRE, or is gone."""
        self._cells[_row.PHASE] = _row.IDLE
        self._channel.write(_wire.READY, 0, 0, (self._pid,))
        read = self._channel.read
        warm = False
        while True:
            if not warm and not self._channel.wait(_WARM_AFTER):
                self._warm_up()
                warm = True
            try:
                kind, flags, attempt, meta, body = read()
            except EOFError:
                self._leave()
            if kind == _wire.CALL:
                self._call(flags, attempt, meta, body)
            elif kind == _wire.SPAN:
                self._span(flags, attempt, meta, body)
            elif kind == _wire.FUNC:
                # Unpickled by the first call that wants it: importing its module may kill us,
                # and then the board should name a task (S28).
                self._functions[meta[0]] = None if body is None else bytes(body)
                self._loaded.discard(meta[0])
            elif kind == _wire.FORGET:
                self._functions.pop(meta[0], None)
                self._loaded.discard(meta[0])
            elif kind == _wire.INIT:
                self._init(body)
            elif kind == _wire.RETIRE:
                self._check_self()
                _multiprocessing.leave()  # never after an interrupt: locks may be held (S51)
                self._leave()
            else:
                raise RuntimeError(f"a worker cannot take a frame of kind {kind}")
            del meta, body

    def _warm_up(self) -> None:
        """Fail and be stopped once in the first idle moment: the first time imports modules and
        faults pages in, 1.5 ms after a fork and 15 in a fresh interpreter, and would hold up a
        real stop by as much. Nobody is told: what the row says may still be of use."""

        def fail(make: Callable[[], BaseException]) -> NoReturn:
            raise make()

        error: BaseException = careful_call(fail, (lambda: ValueError("warming up"),), {})[1]
        describe(error)
        find_halt(error)
        tell_error(error)
        self._dumps_error(error)
        find_halt(careful_call(fail, (lambda: current.cancelled(BY_TOKEN),), {})[1])

    # Requests ------------------------------------------------------------------------------------

    def _init(self, body: bytes | memoryview | None) -> None:
        self._cells[_row.PHASE] = _row.INITIALISING
        failure = None
        try:
            initializer, initargs = _loads(body)
            initializer(*initargs)
        except BaseException as error:  # sys.exit() in an initializer is no success (S24)
            self._check_self()
            failure = (type_name(error), message_of(error), tell_error(error))
        initializer = initargs = None
        self._check_self()
        signals.reinstall()
        if failure is not None:
            self._channel.write(_wire.INITFAIL, _wire.RETIRING, 0, failure)
            self._leave()
        self._children_before = children.living()
        self._cells[_row.PHASE] = _row.IDLE
        self._channel.write(_wire.INITED)

    def _call(self, flags: int, attempt: int, meta: Any, body: Any) -> None:
        fn_id, slot, clear, index = meta
        fatal = flags & _wire.FATAL
        current.begin(attempt, slot, clear, index)
        self._note_unpickling(attempt, index)
        if current.stopping():
            self._never_started(index)
            return
        fn, stage, held = self._load(fn_id, body)
        if held[1] is not None:
            self._failure(held, index, None, stage, fatal, _wire.LAST)
            return
        args, kwargs = held.pop(0)
        started = self._note_running(index)
        if current.stopping():
            fn = args = kwargs = None
            self._never_started(index)
            return
        held = careful_call(fn, args, kwargs)
        fn = args = kwargs = None
        self._item_ended(held, index, started, fatal, True)

    def _span(self, flags: int, attempt: int, meta: Any, body: Any) -> None:
        fn_id, slot, clear, lo, star = meta
        fatal = flags & _wire.FATAL
        each = flags & _wire.EACH
        current.begin(attempt, slot, clear, lo)
        self._note_unpickling(attempt, lo)
        if current.stopping():
            self._cut_short()
            return
        fn, stage, held = self._load(fn_id, body)
        if held[1] is not None:
            self._failure(held, lo, None, stage, fatal, _wire.LAST)
            return
        items: list[Any] = held.pop(0)
        items.reverse()
        index = lo
        over = False
        while not over:
            args = items.pop()
            if index > lo:
                current.begin(attempt, slot, clear, index)
                self._note_unpickling(attempt, index)
            if each:
                held = _load(args)
                if held[1] is not None:
                    args = None
                    end = 0 if items else _wire.LAST
                    over = self._failure(held, index, None, stage, fatal, end)
                    index += 1
                    continue
                args = held.pop(0)
            started = self._note_running(index)
            if current.stopping():
                args = None
                items.clear()
                self._cut_short()
                return
            held = careful_call(fn, args if star else (args,), {})
            args = None
            over = self._item_ended(held, index, started, fatal, not items)
            index += 1

    def _load(self, fn_id: int, body: Any) -> tuple[Any, str, list[Any]]:
        """The function, the stage that was reached, and [what the body holds, None] or
        [None, error]."""
        try:
            fn = self._function(fn_id)
        except BaseException as error:
            return None, _wire.STAGE_FUNCTION, [None, error]
        return fn, _wire.STAGE_ARGUMENTS, _load(body)

    def _function(self, fn_id: int) -> Callable[..., Any]:
        fn = self._functions[fn_id]
        if fn_id not in self._loaded:
            fn = _loads(fn)
            self._functions[fn_id] = fn
            self._loaded.add(fn_id)
        return fn  # type: ignore[return-value]

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

    def _item_ended(
        self, held: list[Any], index: int, started: float, fatal: int, last: bool
    ) -> bool:
        """Answer for one item; True where the attempt is over with it."""
        now = time.monotonic()
        self._check_self()
        if fatal and held[1] is not None and not current.stopping():
            self._pull(held[1])  # before anything else (S11)
        self._note_ended()
        signals.reinstall()
        end = _wire.LAST if last else 0
        if current.interrupted and not self._reuse_interrupted:
            end = _wire.LAST | _wire.RETIRING
        if held[1] is not None:
            halt = find_halt(held[1])
            if halt is None:
                return self._failure(held, index, started, _wire.STAGE_CALL, fatal, end, now)
            by, held[0] = halt
            halt = None
            self._halted(held, by, index, started, now, end)
            return True
        body = b""
        unpicklable = False
        try:
            body = dumps(held[0], self._main, homeward=True)
        except BaseException as error:
            held[1] = error
            unpicklable = True
        if unpicklable:
            return self._failure(held, index, started, _wire.STAGE_RESULT, fatal, end, now)
        held.clear()
        if not end and current.stopping():
            end = _wire.LAST
        self._answer(_wire.VALUE, end, (index, started, now), body)
        return bool(end)

    def _halted(
        self, held: list[Any], by: str, index: int, started: float, now: float, end: int
    ) -> None:
        """`held` is [the error of the clean-up or None, the whole error]; emptied here."""
        text: str | None = None
        body = b""
        if held[0] is not None:
            text = show(tell_error(held[0]))
            drop_traces(held[0])
            body = self._dumps_error(held[0])
        drop_traces(held[1])
        held.clear()
        end |= _wire.LAST
        if by == BY_TOKEN and self._left_behind():
            end |= _wire.RETIRING  # what the task has started goes with us (S20)
        self._answer(_wire.STOPPED, end, (index, started, now, by, text), body)

    def _left_behind(self) -> bool:
        """Does anything still run that the task has started? A thread would go on with the work
        of a task that is over, and its checkpoints would speak for the next one."""
        return _thread._count() > self._threads_before or bool(
            children.living() - self._children_before
        )

    def _failure(
        self,
        held: list[Any],
        index: int,
        started: float | None,
        stage: str,
        fatal: int,
        end: int,
        now: float | None = None,
    ) -> bool:
        """Tell first, format later (S11): the stop word, then the fact. True: attempt over.

        `held` is [what was made of the item so far, the error]; emptied before the answer.
        """
        self._check_self()
        self._cells[_row.PHASE] = _row.PICKLING
        error: BaseException = held[1]
        if fatal:
            self._pull(error)
        if current.stopping():
            end |= _wire.LAST
        name = type_name(error)
        message: Any
        if stage == _wire.STAGE_RESULT:
            told = _pickling.explain(error, "the result", [("result", held[0])], self._main)[0]
            message = (told, message_of(error), _pickling.short(held[0]))
        else:
            message = message_of(error)
        story = tell_error(error)
        drop_traces(error)
        body = b""
        if stage == _wire.STAGE_CALL:
            body = self._dumps_error(error)
            if not body:
                stage = _wire.STAGE_EXCEPTION
        del error
        held.clear()
        if now is None:
            now = time.monotonic()
        self._answer(_wire.FAILURE, end, (index, started, now, stage, name, message, story), body)
        return bool(end & _wire.LAST)

    def _pull(self, error: BaseException) -> None:
        """Pull the cord, unless it is: the siblings see it even while the parent is busy (S11)."""
        slot, clear = current.slot, current.clear
        if self._board.words[slot] == clear:
            self._board.pull(slot, clear, _board.KIND_FAILURE, self._row_number, describe(error))
            # On busy cores those whom the bell has woken stand behind us: the siblings' stop
            # comes before our report.
            _give_way()

    def _dumps_error(self, error: BaseException) -> bytes:
        """The exception, or nothing where it cannot travel: its text does in any case."""
        try:
            return dumps(error, self._main, homeward=True)
        except BaseException:
            self._check_self()
            return b""

    def _never_started(self, index: int) -> None:
        now = time.monotonic()
        self._answer(_wire.STOPPED, _wire.LAST, (index, None, now, _NEVER_STARTED, None), b"")

    def _cut_short(self) -> None:
        self._answer(_wire.DONE, _wire.LAST, (), b"")

    def _answer(self, kind: int, flags: int, meta: Any, body: bytes) -> None:
        self._check_self()
        cells = self._cells
        cells[_row.PHASE] = _row.SENDING
        attempt = current.attempt
        current.end()
        try:
            self._channel.write(kind, flags, attempt, meta, body)
        except BrokenPipeError:
            self._leave()
        if flags & _wire.RETIRING:
            self._leave()
        if flags & _wire.LAST:
            # The row goes on to say which attempt began here: should the answer prove unreadable,
            # nobody may take the task for one that never started (S13).
            cells[_row.PHASE] = _row.IDLE

    # The end -------------------------------------------------------------------------------------

    def _check_self(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a task has forked, and its child has come back into our code

    def _leave(self) -> NoReturn:
        self._check_self()
        # May block on a reader that does not read; the parent waits `kill_after` at most (S21).
        flush_streams()
        os._exit(0)


def _load(data: Any) -> list[Any]:
    """[the object, None] or [None, error]."""
    try:
        return [_loads(data), None]
    except BaseException as error:
        return [None, error]


def _loads(data: Any) -> Any:
    if data is None:
        raise MemoryError("no memory for the bytes of it")
    return loads(data)
