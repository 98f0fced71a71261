"""Tokens: what says that it is time to stop, to a group, a task, or anyone who holds one.

A token is one word on a board of shared memory: reading it costs a memory access, setting it
reaches every process of the tree at once, whoever sets it, the parent being busy or not (S50).

Invariants:
 1. A token that is set stays set (S10).
 2. Any copy, by pickle or by fork, is as good as the first; the word goes back to its board when
    the object that made it is collected, in the process that made it.
 3. A running task that asks its own group's token, by whatever copy, has used its token (S15),
    and is told of an order to itself alone as well; asking any other token is no use of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from andon import _board
from andon._board import Board, Pulled, wait_any
from andon._cancelled import raise_cancelled
from andon._gate import gate, passed_over
from andon._worker import checkpoint
from andon._worker.state import BY_TOKEN, NOTHING, current, reason_text

__all__ = ["Event", "Token"]


class Token:
    """A flag that all processes of one program's tree share; once set, it stays set.

    Made by itself it belongs to no group, and is the shared event that people know:

        stop = andon.Event()
        with andon.Pool(initializer=init, initargs=(stop,)) as pool: ...

    It travels as an argument, in a container or closure, by `initargs`, and by inheritance. Given
    to a group (`TaskGroup(token=stop)`) it stops that group once it is set. No method but `wait`
    blocks. Raises RuntimeError when 65536 are in use in one process.
    """

    __slots__ = (
        "__weakref__",
        "_board",
        "_clear",
        "_on_cancel",
        "_owner",
        "_slot",
        "_words",
    )

    def __init__(self) -> None:
        with gate:
            self._owner = 0
            board = _board.own_board()
            self._bind(board, *board.allot_word())
            self._owner = os.getpid()

    def _bind(self, board: Board, slot: int, clear: int) -> None:
        self._board = board
        self._words: memoryview = board.words
        self._slot = slot
        self._clear = clear
        # Set by the runtime for a group's token, in the process of the group: the machine decides.
        self._on_cancel: Callable[[str], None] | None = None

    @classmethod
    def _at(cls, board: Board, slot: int, clear: int) -> Token:
        """A copy that stands for a word that someone else has allotted."""
        token = cls.__new__(cls)
        token._owner = 0
        token._bind(board, slot, clear)
        return token

    def __del__(self) -> None:
        try:
            if self._owner and self._owner == os.getpid():
                self._owner = 0
                self._board.free_word(self._slot)
        except Exception:
            pass  # never made whole, or the interpreter is going down

    # Asking --------------------------------------------------------------------------------------

    def is_set(self) -> bool:
        """Whether it is set. For the running task's own token: whether the task should stop."""
        state = current
        if self._slot == state.slot and self._words is state.words:
            # Our own: as in `checkpoint.check`.
            if checkpoint._quick[checkpoint._word] != checkpoint._seen:
                state.use()
                return not state.arm() or not self._board.is_clear(self._slot, self._clear)
            return False
        return not self._board.is_clear(self._slot, self._clear)

    def _is_own(self) -> bool:
        # A stale token of the same slot passes too: it reads as set in any case.
        state = current
        return self._slot == state.slot and self._words is state.words

    def check(self) -> None:
        """Raise `Cancelled` if it is set. Inside a `shield`, the task's own token holds back."""
        if not self.is_set():
            return
        if self._is_own():
            if not current.shielded():
                raise current.cancelled(BY_TOKEN)
            return
        raise_cancelled(self.reason or "", self)

    @property
    def reason(self) -> str | None:
        """Why it was set, as text; None while it is clear."""
        pulled = self._board.read(self._slot, self._clear)
        if pulled is not None:
            return reason_text(pulled.kind, pulled.message)
        if self._is_own() and current.stopping():
            return current.reason()
        return None

    # Setting -------------------------------------------------------------------------------------

    def set(self) -> None:
        """Set it, for everyone, and wake all who wait. The same as `cancel("set")`."""
        self.cancel("set")

    def cancel(self, reason: str = "") -> None:
        """Set it and say why; of a group's token: stop that group, with reason CANCEL (S7).

        The first reason stays; setting it again does nothing. Works in tasks too.
        """
        check_reason(reason)
        with gate:
            state = current
            if self._is_own():
                state.use()
            on_cancel = self._on_cancel
            if on_cancel is not None and self._owner == os.getpid():
                on_cancel(reason)
                return
            row = state.row if state.board is self._board else None
            self._board.pull(self._slot, self._clear, _board.KIND_CANCEL, row, reason)

    def _pull(self, kind_code: int, message: str = "") -> bool:
        """The runtime's own way to set a group's token, once the machine has decided (S6)."""
        return self._board.pull(self._slot, self._clear, kind_code, None, message)

    def _nudge(self) -> None:
        """For the engine: have the group's tasks look whether there is an order for them."""
        self._board.nudge(self._slot)

    def _pulled(self, *, wait: bool = False) -> Pulled | None:
        """For the runtime: who pulled, and why; None while it is clear, and without `wait` until it
        has been said why."""
        return self._board.read(self._slot, self._clear, wait=wait)

    def _puller(self) -> tuple[int, int] | None:
        """For the engine: the reason's code and the row of who pulled; None while it is clear."""
        return self._board.puller(self._slot, self._clear)

    # Waiting -------------------------------------------------------------------------------------

    @passed_over
    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set, at most `timeout` seconds; whether it is set.

        Wakes at once, whoever sets it. In a task that waits for another token than its own, and
        in the body of a group, this is a checkpoint: it raises `Cancelled` when the task or the
        group should stop.
        """
        if timeout is not None:
            check_seconds("timeout", timeout, negative=True)  # as `threading.Event` takes it
        if self._is_own():
            current.use()
            return wait_as_task(self.is_set, self._board, timeout, by_task=False) == DONE
        verdict = wait_as_task(self.is_set, self._board, timeout, by_task=gate.on_main())
        if verdict == TASK:
            raise current.cancelled(BY_TOKEN)
        return verdict == DONE

    if not TYPE_CHECKING:  # else any attribute would be one

        def __getattr__(self, name: str) -> NoReturn:
            """Say what to do where `threading.Event` has `clear`."""
            if name == "clear":
                raise AttributeError("an Event, once set, stays set: make a new one for next time")
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )

    # As a value ----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return (self._slot, self._clear, self._board.ident) == (
            other._slot,
            other._clear,
            other._board.ident,
        )

    def __hash__(self) -> int:
        return hash((self._slot, self._clear, self._board.ident))

    def __repr__(self) -> str:
        reason = self.reason
        return f"<andon.Token {'clear' if reason is None else f'set: {reason}'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_arrived, (self._board.ident, self._slot, self._clear))


Event = Token


def check_reason(reason: object) -> None:
    """Refuse what is no reason where it is given."""
    if not isinstance(reason, str):
        raise TypeError(f"the reason must be a str, not {type(reason).__name__}")


def _arrived(ident: str, slot: int, clear: int) -> Token:
    """Unpickle a token: only where its board is joined can it work."""
    board = _board.find(ident)
    if board is None:
        from andon.errors import SerializationError

        raise SerializationError(
            "this andon token or event was made in another process tree (another machine, an "
            "unrelated program, or a task that has ended): it works only in the process that "
            "made it and in the workers below it; make it in the parent and hand it down",
            what="a token",
            original=f"board {ident} is not joined by process {os.getpid()}",
        )
    return Token._at(board, slot, clear)


def own_token() -> Token | None:
    """The running task's own token, without counting as a use of it."""
    token: Token | None = current.own_token()
    return token


current.make_token = Token._at


def body_token() -> Token | None:
    """The token of the innermost group whose body runs here, if any; none in a plain task."""
    hook = current.body_hook
    token: Token | None = hook() if hook is not None else None
    return token


# What ended a wait.
DONE: Final = "done"
TIMEOUT: Final = "timeout"
TASK: Final = "task"


def check_seconds(name: str, value: float, *, negative: bool = False) -> None:
    """Refuse what is no length of time; `negative`: less than none is one."""
    try:
        if value >= 0 or negative:
            return
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {value!r}") from None
    raise ValueError(f"{name} must be at least 0 seconds, not {value!r}")


@passed_over
def wait_as_task(
    done: Callable[[], bool], board: Board | None, timeout: float | None, *, by_task: bool
) -> str:
    """Wait for `done()`, or for a stop of whoever waits.

    A stop of the body raises (S14); a stop of the task, looked at where `by_task`, ends the wait
    with TASK, at the end of its shield if it has one (S18).
    """
    state = current
    in_task = state.attempt != NOTHING
    by_task = by_task and in_task
    body = body_token()

    def awake() -> bool:
        return (
            done()
            or (body is not None and body.is_set())
            or (by_task and state.stopping() and not state.shielded())
        )

    boards: list[Board] = []
    for each in (board, body._board if body is not None else None, state.board):
        if each is not None and each not in boards:
            boards.append(each)
    deadline = None if timeout is None else time.monotonic() + timeout
    if in_task:
        # An interrupt is held until we are through: what could be half done by then is ours. It
        # cannot be late for that, since whoever orders one rings as well.
        with gate:
            woken = _wait(boards, awake, deadline)
    else:
        # Ctrl-C must come through, and may: a wait holds nothing.
        woken = _wait(boards, awake, deadline)
    if done():
        return DONE
    if not woken:
        return TIMEOUT
    if body is not None and body.is_set():
        raise_cancelled(body.reason or "", body)
    return TASK


def _wait(boards: list[Board], awake: Callable[[], bool], deadline: float | None) -> bool:
    state = current
    while True:
        now = time.monotonic()
        left = None if deadline is None else max(0.0, deadline - now)
        shield = state.shield_until_ns / 1e9 - now if state.shield_until_ns else 0.0
        if shield <= 0 or (left is not None and left <= shield):
            return wait_any(boards, awake, left)
        # Nobody rings when a shield runs out.
        if wait_any(boards, awake, shield):
            return True
