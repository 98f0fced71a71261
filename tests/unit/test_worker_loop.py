"""A worker's loop, its careful call, and its interrupt: the protocol stays whole, whatever the
task does. Real processes, bare frames (see `worker_harness.py`)."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from psutil import Process

import andon
from andon import _wire, _words
from andon._board import KIND_CANCEL, KIND_FAILURE, RUNNING, RowView
from andon._pickling import dumps
from andon._traceback import show
from andon._worker import children, linger, signals
from andon.errors import SerializationError
from tests.support import PATIENCE
from tests.unit.worker_harness import worker

pytestmark = pytest.mark.linux

VALUE, FAILURE, STOPPED, DONE = _wire.VALUE, _wire.FAILURE, _wire.STOPPED, _wire.DONE
NAP = 30.0  # far longer than any test; always cut short


def double(x: int) -> int:
    return 2 * x


def add(a: int, b: int) -> int:
    return a + b


def fail(text: str = "bad") -> None:
    raise ValueError(text)


def raise_it(error: BaseException) -> None:
    raise error


def get_pid(*_: Any) -> int:
    return os.getpid()


# Calls ------------------------------------------------------------------------------------------


def test_boots_and_says_so() -> None:
    with worker() as w:
        assert (w.ready.kind, w.ready.meta) == (_wire.READY, (w.pid,))
        assert (w.row.pid, w.row.phase_name, w.row.attempt) == (w.pid, "idle", 0)


def test_a_value_comes_back_with_its_times() -> None:
    with worker() as w:
        before = time.monotonic()
        answer = w.call(double, 21, index=5)
        index, started, ended, _ = answer.meta
        assert (answer.kind, answer.value, index, answer.flags) == (VALUE, 42, 5, _wire.LAST)
        assert before <= started <= ended <= time.monotonic()
        assert w.call(get_pid).value == w.pid
        assert w.row.tasks_done == 2
        w.until(lambda: w.row.phase_name == "idle")


def test_after_a_lone_call_the_next_request_may_come_at_once_or_later() -> None:
    with worker() as w:
        for pause in (0.0, 2 * linger.WORTH, 0.0):
            answer = w.call(double, 21, flags=_wire.LONE)
            assert answer.value == 42
            time.sleep(pause)
        w.until(lambda: Process(w.pid).status() == "sleeping")
        w.close_fd(w.requests)
        assert w.wait() == 0


def test_calls_sent_ahead_are_answered_in_order() -> None:
    with worker() as w:
        attempts = [w.start(double, i) for i in range(50)]
        answers = [w.read() for _ in attempts]
        assert [(a.attempt, a.value) for a in answers] == list(
            zip(attempts, range(0, 100, 2), strict=True)
        )


def test_large_bodies_both_ways() -> None:
    with worker() as w:
        for size in (65536, 65537, 1 << 20, 100, 5 << 20):
            data = os.urandom(size)
            assert w.call(bytes, data).value == data


def test_an_error_comes_back_with_the_users_traceback() -> None:
    with worker() as w:
        answer = w.call(fail, "broken", index=3)
        index, started, ended, stage, name, message, story = answer.meta
        assert (answer.kind, index, stage, name, message) == (
            FAILURE, 3, _wire.STAGE_BARE, "ValueError", "broken",
        )  # fmt: skip
        assert started <= ended
        text = show(story)
        assert text.startswith("Traceback") and text.endswith("ValueError: broken\n")
        assert "in fail" in text and "andon/_worker" not in text
        answer = w.call(raise_it, KeyError("broken"))
        assert (answer.meta[3], type(answer.value)) == (_wire.STAGE_CALL, KeyError)


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit("x")])
def test_other_exits_are_failures(error: BaseException) -> None:
    with worker() as w:
        answer = w.call(raise_it, error)
        assert (answer.kind, answer.meta[4]) == (FAILURE, type(error).__name__)
        assert w.call(double, 1).value == 2


class Refuses:
    """Cannot be pickled, or not be unpickled, by one kind of error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


class Explodes:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return raise_it, (self.error,)


ERRORS = [TypeError("t"), RuntimeError("r"), SystemExit(3), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("error", ERRORS)
def test_a_result_that_cannot_be_pickled_fails_its_task(error: BaseException) -> None:
    with worker() as w:
        answer = w.call(Refuses, error)
        assert (answer.kind, answer.meta[3], answer.body) == (FAILURE, _wire.STAGE_RESULT, b"")
        message, why, value = answer.meta[5]
        assert "Refuses" in message and type(error).__name__ in message
        assert why == str(error) and value.startswith("<tests.unit.test_worker_loop.Refuses obj")
        assert w.call(double, 1).value == 2


@pytest.mark.parametrize("error", ERRORS)
def test_arguments_that_cannot_be_unpickled_fail_their_task(error: BaseException) -> None:
    with worker() as w:
        answer = w.call(double, Explodes(error))
        assert (answer.kind, answer.meta[1], answer.meta[3]) == (
            FAILURE, None, _wire.STAGE_ARGUMENTS,
        )  # fmt: skip
        assert w.call(double, 1).value == 2


class Unsayable(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")

    def __reduce__(self) -> Any:
        raise TypeError("nor can it travel")


def test_an_exception_that_cannot_travel_is_told_as_text() -> None:
    with worker() as w:
        answer = w.call(raise_unsayable)
        assert (answer.kind, answer.meta[3], answer.body) == (FAILURE, _wire.STAGE_EXCEPTION, b"")
        assert answer.meta[4].endswith("Unsayable") and "Traceback" in show(answer.meta[6])
        assert answer.meta[5][1] == "TypeError: nor can it travel"
        assert w.call(double, 1).value == 2


def raise_unsayable() -> None:
    raise Unsayable


def test_a_function_that_cannot_be_unpickled_fails_each_of_its_calls() -> None:
    with worker() as w:
        slot, clear = w.word()
        w.send(_wire.FUNC, meta=(77,), body=dumps(Explodes(ImportError("no such module"))))
        for attempt in (901, 902):
            w.send(_wire.CALL, 0, attempt, (77, slot, clear, 0), dumps(((), {})))
            answer = w.read()
            assert (answer.attempt, answer.meta[3]) == (attempt, _wire.STAGE_FUNCTION)


def test_the_initializer() -> None:
    with worker() as w:
        w.send(_wire.INIT, body=dumps((set_flag, ("here",))))
        assert w.read().kind == _wire.INITED
        assert w.call(get_flag).value == "here"


_flag: Any = None


def set_flag(value: Any) -> None:
    global _flag
    _flag = value


def get_flag() -> Any:
    return _flag


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(0)])
def test_an_initializer_that_raises_ends_the_worker(error: BaseException) -> None:
    with worker() as w:
        w.send(_wire.INIT, body=dumps((raise_it, (error,))))
        answer = w.read()
        assert (answer.kind, answer.meta[0]) == (_wire.INITFAIL, type(error).__name__)
        assert w.wait() == 0


def test_retires_when_told_and_when_the_parent_is_gone() -> None:
    with worker() as w:
        w.send(_wire.RETIRE)
        assert w.wait() == 0
    with worker() as w:
        w.close_fd(w.requests)
        assert w.wait() == 0


def test_the_lifeline_kills_at_once() -> None:
    with worker() as w:
        w.until_running(w.start(sum, range(10**12)))
        w.close_fd(w.lifeline)  # as the kernel does when the parent dies
        assert w.wait() == -signal.SIGKILL


def test_stacks_are_dumped_from_c_code_that_holds_the_gil() -> None:
    with worker() as w:
        w.until_running(w.start(stuck_in_c))
        os.kill(w.pid, signals.STACK_SIGNAL)
        text = b""
        while b"in stuck_in_c" not in text:  # it is written piece by piece
            assert select.select([w.stacks], [], [], PATIENCE)[0], text
            text += os.read(w.stacks, 65536)


def stuck_in_c() -> None:
    sum(range(10**12))


# Spans ------------------------------------------------------------------------------------------


def test_a_span_answers_item_by_item() -> None:
    with worker() as w:
        answers = w.span(double, [1, 2, 3], lo=7)
        assert [(a.meta[0], a.value, a.last) for a in answers] == [
            (7, 2, False), (8, 4, False), (9, 6, True),
        ]  # fmt: skip
        assert [a.value for a in w.span(add, [(1, 2), (3, 4)], star=True)] == [3, 7]


def odd_fails(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x


def test_a_failure_in_a_span_ends_that_item_only() -> None:
    with worker() as w:
        answers = w.span(odd_fails, [0, 1, 2, 3])
        assert [a.kind for a in answers] == [VALUE, FAILURE, VALUE, FAILURE]


def test_a_fatal_failure_ends_the_span() -> None:
    with worker() as w:
        word = w.word()
        answers = w.span(odd_fails, [0, 1, 2, 3], word=word, flags=_wire.FATAL)
        assert [a.kind for a in answers] == [VALUE, FAILURE]
        assert w.board.read(*word) == (KIND_FAILURE, w.number, "ValueError: 1")


@pytest.mark.parametrize(
    ("error", "at_once"), [(ValueError("1"), True), (ValueError("1", 2), False)], ids=repr
)
def test_S11_the_word_comes_before_the_words_where_those_are_soon_said(
    error: BaseException, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = socket.socketpair()
    write_cord = RowView.write_cord

    def say(row: RowView, slot: int, *cord: Any) -> None:
        theirs.sendall(b"now")
        assert theirs.recv(1)
        write_cord(row, slot, *cord)

    def ask(error: BaseException) -> str:
        theirs.sendall(b"now")
        assert theirs.recv(1)
        return str(error)

    with theirs, ours:
        ours.settimeout(PATIENCE)
        if at_once:
            monkeypatch.setattr(RowView, "write_cord", say)
        else:
            monkeypatch.setattr(_words, "message_of", ask)
        with worker() as w:
            word = w.word()
            w.start(raise_it, error, word=word, fatal=True)
            assert ours.recv(3) == b"now"
            assert w.board.is_clear(*word) is not at_once
            assert w.board.read(*word, wait=False) is None
            ours.sendall(b".")
            assert w.read().kind == FAILURE
            pulled = w.board.read(*word)
    assert pulled is not None and pulled.message.startswith("ValueError: ")


def test_a_span_ends_where_its_word_is_pulled_by_one_of_its_items() -> None:
    with worker() as w:
        word = w.word()
        answers = w.span(cancel_at_two, [1, 2, 3], word=word)
        assert [(a.kind, a.last) for a in answers] == [(VALUE, False), (VALUE, True)]
        assert w.board.read(*word) == (KIND_CANCEL, w.number, "two is enough")


def cancel_at_two(x: int) -> int:
    if x == 2:
        andon.current_token().cancel("two is enough")
    return x


def test_items_that_travel_each_by_itself_fail_each_by_itself() -> None:
    with worker() as w:
        items = [1, Explodes(RuntimeError("x")), 3, Explodes(RuntimeError("y"))]
        answers = w.span(double, items, flags=_wire.EACH)
        assert [(a.kind, a.meta[0]) for a in answers] == [
            (VALUE, 0), (FAILURE, 1), (VALUE, 2), (FAILURE, 3),
        ]  # fmt: skip
        whole = w.span(double, [1, Explodes(RuntimeError("x")), 3])
        assert [(a.kind, a.meta[0], a.meta[3]) for a in whole] == [
            (FAILURE, 0, _wire.STAGE_ARGUMENTS)
        ]


# Stops: never started (S12) -----------------------------------------------------------------------


def test_nothing_starts_once_the_word_is_pulled() -> None:
    with worker() as w:
        word = w.word()
        w.board.pull(*word, KIND_CANCEL)
        answer = w.call(fail, word=word)
        assert (answer.kind, answer.meta[1], answer.meta[3]) == (STOPPED, None, "never-started")
        assert [a.kind for a in w.span(fail, [1, 2], word=word)] == [DONE]
        w.order(w._attempt + 1, 1)
        assert w.call(fail).meta[3] == "never-started"
        assert w.call(double, 2).value == 4


def test_nothing_starts_when_the_word_is_pulled_while_arguments_are_unpickled() -> None:
    with worker() as w:
        word = w.word()
        token = andon.Token._at(w.board, *word)
        assert w.call(fail, Pulls(token), word=word).meta[3] == "never-started"


class Pulls:
    def __init__(self, token: andon.Token) -> None:
        self.token = token

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["token"].cancel("while unpickling")


# Stops: the token -------------------------------------------------------------------------------


def check_for_ever() -> None:
    while True:
        andon.check()


def poll_for_ever() -> str:
    token = andon.current_token()
    while not token.is_set():
        pass
    return "saw it"


def sleep_for_ever() -> str:
    return "woken" if andon.sleep(NAP) else "slept"


def wait_for_ever() -> str:
    return f"{andon.current_token().wait(NAP)}"


@pytest.mark.parametrize(
    ("fn", "value"),
    [(poll_for_ever, "saw it"), (sleep_for_ever, "woken"), (wait_for_ever, "True")],
)
@pytest.mark.parametrize("by_order", [False, True])
def test_a_task_that_looks_may_return(fn: Callable[[], str], value: str, by_order: bool) -> None:
    with worker() as w:
        word = w.word()
        attempt = w.start(fn, word=word)
        w.until(lambda: w.row.used)
        w.order(attempt, 1) if by_order else w.board.pull(*word, KIND_CANCEL)
        answer = w.read()
        assert (answer.kind, answer.value, answer.retiring) == (VALUE, value, False)


def wait_for_another(event: andon.Token) -> None:
    event.wait(NAP)


def places(story: Any) -> list[str]:
    """The functions that a story of where a task was tells of, from the outermost on."""
    return [] if story is None else [frame[-1] for frame in story[0]]


@pytest.mark.parametrize("by_order", [False, True])
def test_checkpoints_raise_and_leave_the_worker_warm(by_order: bool) -> None:
    event = andon.Event()
    with worker() as w:
        for fn, args in ((check_for_ever, ()), (wait_for_another, (event,))):
            word = w.word()
            attempt = w.start(fn, *args, word=word)
            w.until_running(attempt)
            w.order(attempt, 1) if by_order else w.board.pull(*word, KIND_CANCEL)
            answer = w.read()
            assert (answer.kind, answer.meta[3:5], answer.flags) == (
                STOPPED, ("token", None), _wire.LAST,
            )  # fmt: skip
            assert places(answer.meta[5]) == ([fn.__name__] if by_order else [])
        assert w.call(get_pid).value == w.pid


def test_waiting_for_another_event_is_no_use_of_the_own_token() -> None:
    event = andon.Event()
    with worker() as w:
        w.until_running(w.start(wait_for_another, event))
        event.set()
        assert w.read().kind == VALUE
        assert not w.row.used
        w.start(poll_for_ever)
        w.until(lambda: w.row.used)


def test_the_groups_own_token_as_an_argument_counts_as_used() -> None:
    with worker() as w:
        word = w.word()
        token = andon.Token._at(w.board, *word)
        w.start(poll_it, token, word=word)
        w.until(lambda: w.row.used)
        token.cancel("enough")
        assert w.read().value == "enough"


def poll_it(token: andon.Token) -> str | None:
    while not token.is_set():
        pass
    return token.reason


def test_the_reason_is_told() -> None:
    with worker() as w:
        for kind, message, text in (
            (KIND_CANCEL, "why not", "why not"),
            (KIND_FAILURE, "ValueError: x", "a task failed: ValueError: x"),
            (KIND_CANCEL, "", "cancelled"),
        ):
            word = w.word()
            attempt = w.start(tell_reason, word=word)
            w.until_running(attempt)
            w.board.pull(*word, kind, None, message)
            assert w.read().value == (text, True)


def tell_reason() -> tuple[str, bool]:
    try:
        check_for_ever()
    except andon.Cancelled as stop:
        return stop.reason, stop.token == andon.current_token()
    raise AssertionError


# Stops: what errors mean (S16, S33, S52) ----------------------------------------------------------


def swallow_and_go_on() -> None:
    for _ in range(3):
        try:
            check_for_ever()
        except BaseException:
            pass
    andon.check()


def fail_while_unwinding() -> None:
    try:
        check_for_ever()
    finally:
        raise KeyError("clean-up")


class ContextlessKeyError(KeyError):
    @property
    def __context__(self) -> Any:
        raise RuntimeError("no context")


def fail_in_silence() -> None:
    try:
        check_for_ever()
    finally:
        raise ContextlessKeyError("clean-up")


def fail_after_unwinding() -> None:
    try:
        check_for_ever()
    except andon.Cancelled:
        pass
    raise KeyError("of its own")


def cancelled_in_a_group(*others: Exception) -> None:
    try:
        check_for_ever()
    except andon.Cancelled as stop:
        raise BaseExceptionGroup("both", [stop, *others]) from None


def raise_an_old_one() -> None:
    raise _flag


def keep_one() -> None:
    try:
        check_for_ever()
    except andon.Cancelled as stop:
        set_flag(stop)


@pytest.mark.parametrize(
    ("fn", "args", "cleanup"),
    [
        (swallow_and_go_on, (), None),
        (fail_while_unwinding, (), KeyError),
        (fail_in_silence, (), KeyError),
        (cancelled_in_a_group, (), None),
        (cancelled_in_a_group, (KeyError("other"),), BaseExceptionGroup),
    ],
)
def test_a_stop_is_a_stop(
    fn: Callable[..., Any], args: tuple[Any, ...], cleanup: type[BaseException] | None
) -> None:
    with worker() as w:
        word = w.word()
        w.until_running(w.start(fn, *args, word=word, fatal=True))
        w.board.pull(*word, KIND_CANCEL)
        answer = w.read()
        assert (answer.kind, answer.meta[3]) == (STOPPED, "token")
        if cleanup is None:
            assert (answer.meta[4], answer.body) == (None, b"")
        else:
            assert isinstance(answer.value, cleanup) and "KeyError" in answer.meta[4]


def test_a_failure_while_stopping_is_a_failure() -> None:
    with worker() as w:
        word = w.word()
        w.until_running(w.start(fail_after_unwinding, word=word))
        w.board.pull(*word, KIND_CANCEL)
        answer = w.read()
        assert (answer.kind, answer.meta[4]) == (FAILURE, "KeyError")


def test_an_old_cancelled_is_a_failure() -> None:
    with worker() as w:
        word = w.word()
        w.until_running(w.start(keep_one, word=word))
        w.board.pull(*word, KIND_CANCEL)
        assert w.read().kind == VALUE
        answer = w.call(raise_an_old_one)
        assert (answer.kind, answer.meta[4].endswith("Cancelled")) == (FAILURE, True)


# Stops: the interrupt (S17, S51) ------------------------------------------------------------------


def spin() -> None:
    while True:
        pass


def nap() -> None:
    time.sleep(NAP)


def stubborn() -> None:
    while True:
        try:
            spin()
        except BaseException:
            if andon.current_token().is_set():
                return


def clean_up_slowly(seconds: float) -> None:
    try:
        spin()
    finally:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass


@pytest.mark.parametrize(("fn", "args"), [(spin, ()), (nap, ()), (clean_up_slowly, (0.1,))])
def test_an_interrupt_stops_the_task_and_spends_the_worker(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    with worker() as w:
        attempt = w.start(fn, *args)
        w.until_running(attempt)
        answer = w.interrupt_until_answer(attempt)
        assert (answer.kind, answer.meta[3:5], answer.flags) == (
            STOPPED, ("interrupt", None), _wire.LAST | _wire.SPENT,
        )  # fmt: skip
        assert places(answer.meta[5])[0] == fn.__name__
        w.send(_wire.RETIRE)
        assert w.wait() == 0


def test_an_interrupted_worker_is_spent_even_if_the_task_returns() -> None:
    with worker() as w:
        attempt = w.start(stubborn)
        w.until_running(attempt)
        answer = w.interrupt_until_answer(attempt)
        assert (answer.kind, answer.retiring) == (VALUE, True)
        w.send(_wire.RETIRE)
        assert w.wait() == 0


def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(NAP,), daemon=True).start()
    nap()


def test_an_interrupted_worker_does_not_stay_with_a_thread_of_its_task() -> None:
    with worker() as w:
        attempt = w.start(leave_a_thread)
        w.until_running(attempt)
        assert w.interrupt_until_answer(attempt).flags == _wire.LAST | _wire.RETIRING
        assert w.wait() == 0


def test_reuse_interrupted() -> None:
    with worker(reuse_interrupted=True) as w:
        attempt = w.start(spin)
        w.until_running(attempt)
        assert w.interrupt_until_answer(attempt).flags == _wire.LAST
        assert w.call(get_pid).value == w.pid


def test_an_interrupt_without_an_order_for_this_attempt_does_nothing() -> None:
    with worker() as w:
        w.call(double, 1)
        attempt = w.start(tell_when_told)
        w.until_running(attempt)
        w.order(attempt - 1, 2)
        for _ in range(20):
            w.interrupt()
        w.order(attempt, 1)
        answer = w.read()
        assert (answer.kind, answer.value, answer.retiring) == (VALUE, "told", False)


def tell_when_told() -> str:
    while not andon.current_token().is_set():
        pass
    return "told"


def test_no_interrupt_reaches_the_library_itself() -> None:
    """The order stands while the task is inside `sleep`: raised when it is through, as a token."""
    with worker() as w:
        attempt = w.start(sleep_for_ever)
        w.until(lambda: w.row.used)
        w.until(lambda: Process(w.pid).status() == "sleeping")  # it is inside by now
        w.row.order(attempt, 2)  # no ring: the signal alone does not end the sleep
        for _ in range(5):
            w.interrupt()
        w.board.ring()
        answer = w.read()
        assert (answer.kind, answer.meta[3], answer.retiring) == (STOPPED, "token", False)


def slow_to_travel(error: bool) -> Any:
    return Slow(error)


class Slow:
    """Takes its time to be pickled; fails if anything is raised into that."""

    def __init__(self, error: bool) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass
        return (dict, ())


def test_no_interrupt_reaches_the_pickler() -> None:
    with worker() as w:
        attempt = w.start(slow_to_travel, False)
        w.until(lambda: w.row.phase_name == "pickling")
        w.order(attempt, 2)
        for _ in range(50):
            w.interrupt()
        answer = w.read()
        assert (answer.kind, answer.value, answer.retiring) == (VALUE, {}, False)


def test_shield_holds_the_interrupt_back() -> None:
    with worker() as w:
        attempt = w.start(shielded, 0.2, NAP)
        w.until(lambda: w.row.shield_until_ns)
        answer = w.interrupt_until_answer(attempt)
        assert (answer.kind, answer.meta[3], answer.body) == (STOPPED, "token", b"")
        assert answer.meta[2] - answer.meta[1] >= 0.2
        assert w.row.shield_until_ns == 0


def shielded(seconds: float, limit: float) -> None:
    end = time.monotonic() + seconds
    with andon.shield(limit):
        while (left := end - time.monotonic()) > 0:
            andon.check()
            assert not andon.sleep(min(left, 0.05))
    raise AssertionError("leaving the shield is a checkpoint")


def test_a_shield_runs_out() -> None:
    with worker() as w:
        attempt = w.start(shielded, NAP, 0.2)
        w.until(lambda: w.row.shield_until_ns)
        answer = w.interrupt_until_answer(attempt)
        assert answer.kind == STOPPED or answer.meta[4] == "AssertionError"
        assert answer.meta[2] - answer.meta[1] < NAP / 2


def test_a_shield_in_clean_up_does_not_cut_it_short() -> None:
    with worker() as w:
        word = w.word()
        w.until_running(w.start(clean_up_in_a_shield, word=word))
        w.board.pull(*word, KIND_CANCEL)
        assert w.read().value == "cleaned"


def clean_up_in_a_shield() -> str:
    try:
        check_for_ever()
    except andon.Cancelled:
        with andon.shield(1.0):
            pass
        return "cleaned"
    return "?"


# What a task leaves behind ------------------------------------------------------------------------


def leave_a_child(stop: bool) -> int:
    child = subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({NAP})"])
    child.returncode = 0  # silences the warning that it still runs; it goes with the group
    if stop:
        check_for_ever()
    return child.pid


def test_a_stopped_task_that_leaves_children_retires_the_worker() -> None:
    with worker() as w:
        word = w.word()
        attempt = w.start(leave_a_child, True, word=word)
        w.until(lambda: w.row.attempt == attempt and w.row.used)
        w.board.pull(*word, KIND_CANCEL)
        answer = w.read()
        assert (answer.kind, answer.meta[3], answer.retiring) == (STOPPED, "token", True)
        os.killpg(w.pid, signal.SIGKILL)
        w.wait()


def test_children_that_were_there_before_do_not_count() -> None:
    with worker() as w:
        w.send(_wire.INIT, body=dumps((leave_a_child, (False,))))
        assert w.read().kind == _wire.INITED
        word = w.word()
        w.until_running(w.start(check_for_ever, word=word))
        w.board.pull(*word, KIND_CANCEL)
        assert not w.read().retiring
        os.killpg(w.pid, signal.SIGKILL)
        w.wait()


def test_living_children_are_seen_and_zombies_are_not() -> None:
    before = children.living()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert children.living() - before == {child.pid}
        assert children._scanned() >= {child.pid}
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert children.living() == before
    finally:
        child.communicate()


def fork_and_come_back() -> str:
    pid = os.fork()
    if not pid:
        return "child"
    os.waitpid(pid, 0)
    return "parent"


def fork_and_fail() -> str:
    if not os.fork():
        raise ValueError("in the child")
    os.wait()
    return "parent"


def test_a_forked_copy_never_answers() -> None:
    with worker() as w:
        assert w.call(fork_and_come_back).value == "parent"
        assert w.call(fork_and_fail).value == "parent"
        assert w.call(double, 3).value == 6


def rude() -> None:
    sys.stdout.close()
    sys.stderr.close()
    os.close(0)
    os.closerange(3, 31)
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir("/")


def test_a_rude_task_does_no_harm() -> None:
    with worker() as w:
        assert w.call(rude).kind == VALUE
        os.kill(w.pid, signal.SIGINT)
        attempt = w.start(spin)
        w.until_running(attempt)
        assert w.interrupt_until_answer(attempt).meta[3] == "interrupt"
        w.send(_wire.RETIRE)
        assert w.wait() == 0


def kill_itself_when_dropped() -> Any:
    return Deadly()


class Deadly:
    def __del__(self) -> None:
        os._exit(9)

    def __reduce__(self) -> Any:
        return (dict, ())


def test_a_deadly_finalizer_kills_within_its_own_task() -> None:
    with worker() as w:
        attempt = w.start(kill_itself_when_dropped)
        with pytest.raises(EOFError):
            w.read()
        assert w.wait() == 9
        assert (w.row.attempt, w.row.phase_name) == (attempt, "pickling")


def test_a_token_of_another_tree_says_so() -> None:
    with pytest.raises(SerializationError, match="another process tree"):
        andon.token._arrived("gone", 1, 2)


# Places -------------------------------------------------------------------------------------------


def where_am_i() -> Any:
    main = vars(sys.modules["__main__"])
    names = {name for name in main if not name.startswith("__")}
    return os.getcwd(), sys.argv, os.environ.get("ANDON_TEST"), "HOME" in os.environ, names


def test_boots_in_the_parents_place(tmp_path: Any) -> None:
    environ = {"ANDON_TEST": "1", "PATH": os.environ["PATH"]}
    with worker("forkserver", cwd=str(tmp_path), argv=["me", "x"], environ=environ) as w:
        assert w.call(where_am_i).value == (str(tmp_path), ["me", "x"], "1", False, set())


def open_high() -> Any:
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    return fds, os.readlink("/proc/self/fd/0"), os.getpgrp() == os.getpid()


def test_its_descriptors_lie_high() -> None:
    with worker() as w:
        fds, stdin, own_group = w.call(open_high).value
        assert len([fd for fd in fds if fd >= 300]) == 6
        assert (stdin, own_group) == ("/dev/null", True)


# The storm ----------------------------------------------------------------------------------------

STORM = int(os.environ.get("ANDON_STORM", "2000"))


def busy(number: int) -> int:
    """A short task of one of several kinds; its result is its number, and nobody else's."""
    kind = number % 6
    try:
        if kind == 0:
            sum(range(300))
        elif kind == 1:
            time.sleep(0.0001)
        elif kind == 2:
            andon.check()
        elif kind == 3:
            with andon.shield(0.001):
                sum(range(100))
        elif kind == 4:
            andon.sleep(0.0001)
        else:
            with contextlib.suppress(ValueError):
                dumps(int("x"))
    finally:
        sum(range(20))
    return number


@pytest.mark.stress
@pytest.mark.parametrize("items", [1, 5])
def test_storm_of_interrupts(items: int) -> None:
    """Interrupts at random moments, with the order for the very attempt that runs: every item is
    answered once, with its own result, and nothing is felt outside of user code."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    counts = dict.fromkeys((VALUE, STOPPED, DONE), 0)
    felt = {"token": 0, "interrupt": 0}
    with worker(reuse_interrupted=True) as w:
        for number in range(STORM // items):
            word = w.word()
            done = w.row.tasks_done
            if items == 1:
                attempt = w.start(busy, number, word=word)
            else:
                attempt = w.start_span(busy, [number] * items, word=word)
            if dice.random() < 0.7:
                # On a quiet machine we are quicker than the worker: aim at what runs. No order is
                # out yet, so it will run; at the latest its end is seen.
                while w.row.phase != RUNNING and w.row.tasks_done == done:
                    pass
            for _ in range(dice.randrange(0, 200)):
                pass
            if dice.random() < 0.8:
                w.row.order(attempt, 2)
                for _ in range(dice.randrange(1, 4)):
                    w.interrupt()
                    for _ in range(dice.randrange(0, 300)):
                        pass
            answers = [w.read()]
            while not answers[-1].last:
                answers.append(w.read())
            for answer in answers:
                assert answer.attempt == attempt, f"seed {seed}"
                assert answer.kind in counts, f"seed {seed}: {answer}"
                counts[answer.kind] += 1
                if answer.kind == VALUE:
                    assert answer.value == number, f"seed {seed}"
                if answer.kind == STOPPED and answer.meta[1] is not None:
                    felt[answer.meta[3]] += 1
            w.board.free_word(word[0])
        assert w.call(get_pid).value == w.pid, f"seed {seed}"
    # Else the storm has missed its aim.
    assert counts[VALUE] and felt["token"] and felt["interrupt"], f"seed {seed}: {counts} {felt}"
