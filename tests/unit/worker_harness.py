"""One real worker at the end of real pipes, driven with bare frames: no engine, no template."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from andon import _wire
from andon._board import RowView, own_board, tray
from andon._pickling import dumps, loads
from andon._plain import is_within
from andon._worker import boot, signals
from tests.support import PATIENCE


class Answer(NamedTuple):
    """A frame from the worker."""

    kind: int
    flags: int
    attempt: int
    meta: Any
    body: bytes

    @property
    def value(self) -> Any:
        if self.kind == _wire.VALUES:
            values = tray.values(self.meta[4], self.meta[3], self.body)
            return [loads(v[1]) if is_within(v) else v for v in values]
        return loads(self.body)

    @property
    def last(self) -> bool:
        return bool(self.flags & _wire.LAST)

    @property
    def retiring(self) -> bool:
        return bool(self.flags & (_wire.RETIRING | _wire.SPENT))


class Worker:
    """Forked from the test, booted, and asked by `call` and `span`."""

    def __init__(self, start_method: str = "fork", **settings: Any) -> None:
        self.board = own_board()
        self.number = self.board.allot_row()
        self.row: RowView = self.board.row(self.number)
        requests_r, self.requests = os.pipe()
        self.answers, answers_w = os.pipe()
        lifeline_r, self.lifeline = os.pipe()
        self.stacks, stacks_w = os.pipe()
        theirs = [requests_r, answers_w, lifeline_r, stacks_w]
        ours = [self.requests, self.answers, self.lifeline, self.stacks]
        self.open = set(ours)
        self.exitcode: int | None = None
        self._buffer = bytearray()
        self._items: list[Answer] = []
        self._functions: dict[Any, int] = {}
        self._attempt = 0
        self._slots: set[int] = set()  # of all words
        self.pid = os.fork()
        if not self.pid:
            for fd in ours:
                os.close(fd)
            memory, bell = os.dup(self.board.mem_fd), os.dup(self.board.bell_fd)
            boot.run(1, [*theirs, memory, bell], start_method)
        for fd in theirs:
            os.close(fd)
        settings = {
            "boards": [self.board.ident],
            "row": self.number,
            "level": 1,
            "start_method": start_method,
            **settings,
        }
        self.send(_wire.BOOT, meta=(settings,))
        self.ready = self.read()

    def send(
        self, kind: int, flags: int = 0, attempt: int = 0, meta: Any = (), body: bytes = b""
    ) -> None:
        data = memoryview(_wire.pack(kind, flags, attempt, meta, len(body)) + body)
        while data:
            data = data[os.write(self.requests, data) :]

    def read(self) -> Answer:
        """The next answer, item by item; EOFError where there is none."""
        if not self._items:
            self._items = self._itemised(self.read_frame())
        return self._items.pop(0)

    def _itemised(self, frame: Answer) -> list[Answer]:
        if frame.kind != _wire.VALUES:
            return [frame]
        first, started, ended, count, _ = frame.meta
        values = frame.value
        assert len(values) == count > 0
        answers = [
            Answer(_wire.VALUE, 0, frame.attempt, (first + i, started, ended, 0), dumps(value))
            for i, value in enumerate(values)
        ]
        answers[-1] = answers[-1]._replace(flags=frame.flags)
        return answers

    def read_frame(self) -> Answer:
        """The next frame as it comes."""
        head = self._take(_wire.HEADER.size)
        kind, flags, meta_len, attempt, body_len = _wire.unpack_header(head)
        meta = _wire.unpack_meta(self._take(meta_len))
        return Answer(kind, flags, attempt, meta, self._take(body_len))

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not select.select([self.answers], [], [], PATIENCE)[0]:
                raise AssertionError(f"the worker says nothing; it is {self.row.phase_name}")
            chunk = os.read(self.answers, 1 << 20)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    # Work ----------------------------------------------------------------------------------------

    def function(self, fn: Callable[..., Any]) -> int:
        if fn not in self._functions:
            self._functions[fn] = len(self._functions) + 1
            self.send(_wire.FUNC, meta=(self._functions[fn],), body=dumps(fn))
        return self._functions[fn]

    def word(self) -> tuple[int, int]:
        slot, clear = self.board.allot_word()
        self._slots.add(slot)
        return slot, clear

    def start(
        self,
        fn: Callable[..., Any],
        *args: Any,
        word: tuple[int, int] | None = None,
        fatal: bool = False,
        index: int = 0,
        flags: int = 0,
    ) -> int:
        """Send a call; its attempt."""
        slot, clear = word or self.word()
        self._attempt += 1
        fn_id = self.function(fn)
        self.send(
            _wire.CALL,
            flags | (_wire.FATAL if fatal else 0),
            self._attempt,
            (fn_id, slot, clear, index),
            dumps((args, {})),
        )
        return self._attempt

    def call(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Answer:
        """Its one answer."""
        attempt = self.start(fn, *args, **options)
        answer = self.read()
        assert answer.attempt == attempt
        return answer

    def start_span(
        self,
        fn: Callable[..., Any],
        items: list[Any],
        *,
        lo: int = 0,
        star: bool = False,
        word: tuple[int, int] | None = None,
        flags: int = 0,
    ) -> int:
        slot, clear = word or self.word()
        self._attempt += 1
        fn_id = self.function(fn)
        if flags & _wire.EACH:
            items = [dumps(item) for item in items]
        meta = fn_id, slot, clear, lo, star, None
        self.send(_wire.SPAN, flags, self._attempt, meta, dumps(items))
        return self._attempt

    def span(self, fn: Callable[..., Any], items: list[Any], **options: Any) -> list[Answer]:
        """All its answers."""
        attempt = self.start_span(fn, items, **options)
        answers = [self.read()]
        while not answers[-1].last:
            answers.append(self.read())
        assert {answer.attempt for answer in answers} == {attempt}
        return answers

    # Stops ---------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that only the board shows."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"still {self.row.phase_name}"
            time.sleep(0.0005)

    def until_running(self, attempt: int) -> None:
        self.until(lambda: self.row.attempt == attempt and self.row.phase_name == "running")

    def order(self, attempt: int, level: int) -> None:
        self.row.order(attempt, level)
        for slot in self._slots:
            self.board.nudge(slot)
        self.board.ring()

    def interrupt(self) -> None:
        os.kill(self.pid, signals.INTERRUPT_SIGNAL)

    def interrupt_until_answer(self, attempt: int) -> Answer:
        """As the engine does: order, send, and send again until it is felt."""
        self.order(attempt, 2)
        end = time.monotonic() + PATIENCE
        while not self._buffer and not select.select([self.answers], [], [], 0.02)[0]:
            assert not self._items
            assert time.monotonic() < end, "the interrupt is never felt"
            self.interrupt()
        return self.read()

    # The end -------------------------------------------------------------------------------------

    def wait(self) -> int:
        """Its exit status, once it has gone; as in `subprocess`."""
        if self.exitcode is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                if not select.select([pidfd], [], [], PATIENCE)[0]:
                    os.kill(self.pid, signal.SIGKILL)
                    os.waitpid(self.pid, 0)
                    raise AssertionError(f"the worker stays; it is {self.row.phase_name}")
                self.exitcode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            finally:
                os.close(pidfd)
        return self.exitcode

    def close_fd(self, fd: int) -> None:
        self.open.discard(fd)
        os.close(fd)

    def close(self) -> None:
        if self.exitcode is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for fd in list(self.open):
            self.close_fd(fd)
        self.board.free_row(self.number)


@contextmanager
def worker(start_method: str = "fork", **settings: Any) -> Iterator[Worker]:
    made = Worker(start_method, **settings)
    try:
        yield made
    finally:
        made.close()
