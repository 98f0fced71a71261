"""A worker's signals: the interrupt (step 2 of the ladder), the stack dump, and the rest.

The interrupt is SIGURG: its default is to be ignored, so one that comes too early or too late
harms nobody, and hardly any program uses it. Its handler raises the task's own `Cancelled` only
while user code of exactly the attempt that is to stop runs (S17). Where that has called the
library, it leaves a note, which is looked at when the gate is left; else it does nothing. The
parent sends it again until the attempt ends (S16).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from andon._cancelled import Cancelled
from andon._gate import PASSED_OVER, RESPECTFUL, gate, passed_over
from andon._traceback import context_of
from andon._worker.state import BY_INTERRUPT, BY_TOKEN, current

# Step 2 and the stack dump; and what a terminal sends to all of its processes: there the parent
# alone decides (S32).
INTERRUPT_SIGNAL: signal.Signals
STACK_SIGNAL: int
_FROM_TERMINAL: int
if sys.platform == "linux":
    INTERRUPT_SIGNAL = signal.SIGURG
    # Far from those that libraries take (the first real-time ones) and that libc keeps.
    STACK_SIGNAL = signal.SIGRTMAX - 3
    _FROM_TERMINAL = signal.SIGINT
elif sys.platform == "win32":
    # A thread of the worker's own raises it, by order (see `orders.py`), and only this one ends a
    # `time.sleep`. None comes from the console, of which the worker takes no Ctrl-C.
    INTERRUPT_SIGNAL = signal.SIGINT
    STACK_SIGNAL = 0  # an order, too
    _FROM_TERMINAL = signal.SIGBREAK
else:
    INTERRUPT_SIGNAL = signal.SIGURG
    STACK_SIGNAL = signal.SIGINFO  # ignored by default, like SIGURG; a terminal's Ctrl-T
    _FROM_TERMINAL = signal.SIGINT


# Handlers as they are: without the search for the name of a number, which takes nearly all of the
# time, and runs bytecodes, between which handlers are called.
_bare: Any = sys.modules.get("_signal", signal)
get_handler: Callable[[int], Any] = _bare.getsignal
set_handler: Callable[[int, Any], Any] = _bare.signal
_IGNORED, _DEFAULT = int(signal.SIG_IGN), int(signal.SIG_DFL)


# Rooms of ours that a task's thread is in outside of the gate, for a moment: on its way to it or
# back, with a scope that nobody else knows of yet, or with an error that is to be raised (S17).
# Outside of the gate none of them calls what may block, but by way of a function of another room.
_PASSED = frozenset(
    f"andon.{name}"
    for name in [
        "_cancelled",
        "_gate",
        "_grouping",
        "_runtime.endings",
        "_runtime.handlers",
        "_runtime.leaving",
        "_runtime.scope",
        "_worker.state",
        "taskgroup",
    ]
)


@passed_over
def on_interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise the running task's own `Cancelled`, if this is the moment for it."""
    if not _due():
        return
    if gate.depth or gate.entering or (frame is not None and _is_passed_over(frame)):
        gate.deferred = _deliver
        return
    # The worker is not used again after this (S51), whatever the task makes of it.
    current.interrupted = True
    raise current.cancelled(BY_INTERRUPT)


RESPECTFUL.append(on_interrupt)


@passed_over
def _is_passed_over(frame: FrameType) -> bool:
    room = dict.get(frame.f_globals, "__name__")  # whatever class of `dict` they are
    return frame.f_code in PASSED_OVER or (type(room) is str and room in _PASSED)


@passed_over
def _deliver() -> None:
    """The same at a clean point, when library code that the task had called is through."""
    if _due():
        raise current.cancelled(BY_TOKEN)


@passed_over
def _due() -> bool:
    state = current
    return (
        gate.user
        and state.interrupt_ordered()
        and not state.shielded()
        and not unwinding(sys.exception())
    )


@passed_over
def unwinding(exc: BaseException | None) -> bool:
    """Whether the task's own `Cancelled` is being handled: it was felt, clean-up is under way.

    The interpreter keeps context chains free of cycles; the bound is for programs that build
    their own.
    """
    for _ in range(1000):
        if exc is None:
            return False
        if current.mark_of(exc) is not None:
            return True
        exc = context_of(exc)
    return False


def install() -> None:
    """All signals of a new worker; inherited handlers of the parent's go (gh-94454)."""
    signal.set_wakeup_fd(-1)
    for number in _bare.valid_signals():
        if callable(get_handler(number)):
            set_handler(number, _DEFAULT)
    set_handler(_FROM_TERMINAL, _IGNORED)
    set_handler(INTERRUPT_SIGNAL, on_interrupt)
    sys.unraisablehook = _quiet(sys.unraisablehook)
    if sys.platform != "win32":
        # Last: what the launcher may have held back arrives now.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reinstall() -> None:
    """After a task, which may have put handlers of its own in their place."""
    if get_handler(INTERRUPT_SIGNAL) is not on_interrupt:
        signal.signal(INTERRUPT_SIGNAL, on_interrupt)
    if get_handler(_FROM_TERMINAL) != _IGNORED:
        signal.signal(_FROM_TERMINAL, signal.SIG_IGN)


def hold() -> None:
    """No signal but that for the stacks is of use any more, nor is any handler."""
    if sys.platform != "win32":
        try:
            _bare.pthread_sigmask(signal.SIG_BLOCK, _bare.valid_signals() - {STACK_SIGNAL})
        except BaseException:  # of a handler of the task's, whose signal had come: they are held
            pass


def _quiet(hook: Any) -> Any:
    """An interrupt that lands in a `__del__` vanishes there and is sent again: not worth a word."""

    def unraisable(args: Any) -> None:
        if not isinstance(args.exc_value, Cancelled):
            hook(args)

    return unraisable
