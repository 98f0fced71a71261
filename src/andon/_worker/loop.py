"""A worker's life: read a request, execute it, answer. One thread, blocking; nothing is shared.

    pipe ── read ──▶ Loop ── careful_call, Runs ──▶ the task
                       └──▶ Answers ── row, outbox, cord ──▶ board and pipe

Invariants:
 1. Every CALL and SPAN is answered by frames of its attempt, exactly one of which, the final one,
    carries LAST; every item that began is told of (S45).
 2. The row says RUNNING, and of what, before the last look at the stop word, and the call comes
    right after that look: whoever pulls the word and then reads the row knows (S12, S13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from andon import _multiprocessing, _wire
from andon._board import row as _row
from andon._buffers import lending
from andon._buffers.ring import Ring
from andon._pickling import loads
from andon._words import as_text, describe, is_bare, is_plain, say
from andon._worker import children, lane, linger, signals
from andon._worker.call import careful_call, find_halt, stays, tell_error
from andon._worker.channel import Channel
from andon._worker.outbox import GATHERED_NS, PATIENCE_NS
from andon._worker.runs import Runs
from andon._worker.state import BY_TOKEN, current

_WARM_AFTER = 0.005  # seconds without a request


class Loop(Runs):
    """One worker, booted: `run()` never returns."""

    def __init__(
        self,
        channel: Channel,
        *,
        results: Ring | None = None,
        main_by_reference: dict[str, Any] | None = None,
        reuse_interrupted: bool = False,
    ) -> None:
        super().__init__(
            channel,
            results=results,
            main_by_reference=main_by_reference,
            reuse_interrupted=reuse_interrupted,
        )
        self._functions: dict[int, Callable[..., Any] | bytes | None] = {}
        self._loaded: set[int] = set()
        self._lingers = True  # it was worth it the last time

    def run(self) -> NoReturn:
        """Until the parent says RETIRE, or is gone."""
        self._cells[_row.PHASE] = _row.IDLE
        self._channel.write(_wire.READY, 0, 0, (self._pid,))
        read = self._channel.read
        warm = False
        while True:
            if not warm and not self._spent and not self._channel.wait(_WARM_AFTER):
                self._warm_up()
                warm = True
            try:
                kind, flags, attempt, meta, body = read()
            except EOFError:
                self._leave()
            if kind == _wire.CALL:
                self._call(flags, attempt, meta, body)
                if flags & _wire.LONE and self._board.is_clear(*meta[1:3]):
                    self._await_next()
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
                if not self._spent:  # else locks may be held (S51)
                    self._cells[_row.PHASE] = _row.FLUSHING  # that may take what it takes
                    _multiprocessing.leave()
                    self._cells[_row.PHASE] = _row.IDLE
                self._leave()
            else:
                raise RuntimeError(f"a worker cannot take a frame of kind {kind}")
            del meta, body

    def _await_next(self) -> None:
        """A lone call is answered: the next request may come at once. (Not where the line stops:
        then others need the core.)"""
        begun = linger.clock()
        if self._lingers and linger.linger(partial(self._channel.wait, 0.0)):
            return
        self._lingers = self._channel.wait(linger.WORTH) and linger.clock() - begun < linger.WORTH

    def _warm_up(self) -> None:
        """Fail and be stopped once in the first idle moment: the first time imports modules and
        faults pages in, 1.5 ms after a fork and 15 in a fresh interpreter, and would hold up a
        real stop by as much. Nobody is told: what the row says may still be of use."""

        def fail(make: Callable[[], BaseException]) -> NoReturn:
            raise make()

        error: BaseException = careful_call(fail, (lambda: ValueError("warming up"),), {})[1]
        find_halt(error)
        is_plain(error)
        tell_error(error, describe(error))
        is_bare(error)
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
            said = say(error)
            failure = (*said, tell_error(error, as_text(*said)))
        initializer = initargs = None
        lending.keep()  # its arguments stay where they are as long as the pool
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
        fn_id, slot, clear, lo, star, form = meta
        fatal = flags & _wire.FATAL
        each = flags & _wire.EACH
        self._outbox.patience_ns = GATHERED_NS if flags & _wire.GATHERED else PATIENCE_NS
        current.begin(attempt, slot, clear, lo)
        self._note_unpickling(attempt, lo)
        if current.stopping():
            self._cut_short()
            return
        fn, stage, held = self._load(fn_id, body, form)
        if held[1] is not None:
            self._failure(held, lo, None, stage, fatal, _wire.LAST)
            return
        items: Sequence[Any] = held.pop(0)
        calls = flags & _wire.CALLS
        kwargs: Any = {}
        call = lane.called(fn) if calls else lane.starred(fn) if star else fn
        left, hi, index = iter(items), lo + len(items), lo
        over = False
        while not over:
            args = next(left)
            if index > lo:
                current.begin(attempt, slot, clear, index)
                self._note_unpickling(attempt, index)
            if each:
                held = _load(args)
                if held[1] is not None:
                    args = None
                    end = 0 if index + 1 < hi else _wire.LAST
                    over = self._failure(held, index, None, stage, fatal, end)
                    index += 1
                    continue
                args = held.pop(0)
                if calls:
                    args, kwargs = args
                elif not star:
                    args = (args,)
            elif not star:
                args = (args,)
            started = self._note_running(index)
            if current.cut_short() if index > lo else current.stopping():
                args = kwargs = None
                self._cut_short()
                return
            held = careful_call(fn, args, kwargs)
            args = None
            if calls:
                kwargs = None
            if index + 1 < hi and held[1] is None:
                index, over = self._run_on(call, left, bool(each), held, index, hi, started, fatal)
            else:
                over = self._item_ended(held, index, started, fatal, index + 1 == hi)
                index += 1

    def _load(self, fn_id: int, body: Any, form: Any = _wire.PICKLED) -> tuple[Any, str, list[Any]]:
        """The function, the stage that was reached, and [what the body holds, None] or
        [None, error]."""
        try:
            fn = self._function(fn_id)
        except BaseException as error:
            return None, _wire.STAGE_FUNCTION, [None, error]
        if form is not _wire.PICKLED and body is not None:
            return fn, _wire.STAGE_ARGUMENTS, [_wire.unpack_items(form, body), None]
        return fn, _wire.STAGE_ARGUMENTS, _load(body)

    def _function(self, fn_id: int) -> Callable[..., Any]:
        fn = self._functions[fn_id]
        if fn_id not in self._loaded:
            fn = _loads(fn)
            if stays(fn):  # else one attempt's changes to it would be there in the next
                self._functions[fn_id] = fn
                self._loaded.add(fn_id)
        return fn  # type: ignore[return-value]


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
