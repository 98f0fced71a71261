"""Tokens and what a task may call, in a process whose running task is played by the test.

What takes a real worker stands in test_worker_loop.py."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import andon
from andon import task
from andon._board import KIND_CANCEL, KIND_DEADLINE, RowView, own_board
from andon._worker.state import current
from andon.token import Token
from tests.support import PATIENCE

Word = tuple[int, int]


@pytest.fixture
def running() -> Iterator[RowView]:
    """As if this process ran attempt 7 of a group."""
    board = own_board()
    number = board.allot_row()
    current.sit(board, number)
    current.begin(7, *board.allot_word(), 0)
    yield board.row(number)
    current.end()
    current.reset()
    board.free_row(number)


@pytest.fixture
def body() -> Iterator[Token]:
    """As if this were the body of a group with this token."""
    token = Token()
    task.set_body_hook(lambda: token)
    yield token
    task.set_body_hook(None)


def later(act: object) -> threading.Thread:
    thread = threading.Thread(target=act)  # type: ignore[arg-type]
    thread.start()
    return thread


# An event by itself -----------------------------------------------------------------------------


def test_an_event() -> None:
    event = andon.Event()
    assert (event.is_set(), event.wait(0), event.reason) == (False, False, None)
    event.check()
    event.set()
    event.set()
    assert (event.is_set(), event.wait(0), event.wait(), event.reason) == (True, True, True, "set")
    with pytest.raises(andon.Cancelled) as caught:
        event.check()
    assert (caught.value.reason, caught.value.token) == ("set", event)
    assert repr(event) == "<andon.Token set: set>"
    assert repr(andon.Event()) == "<andon.Token clear>"
    assert andon.Event is andon.Token


def test_the_first_reason_stays() -> None:
    event = andon.Event()
    event.cancel("first")
    event.cancel("second")
    assert event.reason == "first"
    silent = andon.Event()
    silent.cancel()
    assert silent.reason == "cancelled"
    with pytest.raises(TypeError, match="reason"):
        silent.cancel(5)  # type: ignore[arg-type]


def test_a_wait_wakes_when_it_is_set() -> None:
    event = andon.Event()
    thread = later(event.set)
    assert event.wait(PATIENCE)
    thread.join()


def test_a_wait_is_bounded() -> None:
    start = time.monotonic()
    assert not andon.Event().wait(0.05)
    assert 0.05 <= time.monotonic() - start < PATIENCE


def test_copies_are_as_good() -> None:
    event = andon.Event()
    for other in (pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy([event])[0]):
        assert other == event and hash(other) == hash(event) and other is not event
        del other
    arrived = pickle.loads(pickle.dumps(event))
    arrived.set()
    assert event.is_set()
    assert event != andon.Event()
    assert event != "event"


def test_a_copy_does_not_give_the_word_back() -> None:
    board = own_board()
    event = andon.Event()
    free = len(board._free_words)
    arrived = pickle.loads(pickle.dumps(event))
    del arrived
    gc.collect()
    assert len(board._free_words) == free
    del event
    gc.collect()
    assert len(board._free_words) == free + 1


def test_a_fork_inherits_it() -> None:
    event = andon.Event()
    pid = os.fork()
    if not pid:
        try:
            event.cancel("from the child")
        finally:
            os._exit(0)
    assert event.wait(PATIENCE)
    os.waitpid(pid, 0)


def test_a_child_neither_frees_nor_asks_the_parents_runtime() -> None:
    event = andon.Event()
    asked: list[str] = []
    event._on_cancel = asked.append
    pid = os.fork()
    if not pid:
        try:
            event.cancel("from the child")
            free = len(own_board()._free_words)
            del event
            os._exit(10 + len(asked) + len(own_board()._free_words) - free)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
    assert event.is_set()


def test_a_groups_token_asks_its_runtime() -> None:
    token = Token()
    asked: list[str] = []
    token._on_cancel = asked.append
    token.cancel("why")
    assert (asked, token.is_set(), token._pulled()) == (["why"], False, None)
    token._pull(KIND_DEADLINE)
    assert (token.is_set(), token._pulled()) == (True, (KIND_DEADLINE, 0, ""))
    assert token.reason == "the deadline of the group has passed"


# Nowhere in particular --------------------------------------------------------------------------


def test_outside_of_tasks_all_of_it_is_harmless() -> None:
    andon.check()
    start = time.monotonic()
    assert andon.sleep(0.02) is False
    assert time.monotonic() - start >= 0.02
    with andon.shield(1.0):
        andon.check()
    assert task.task_token() is None
    with pytest.raises(RuntimeError, match=r"andon\.Event"):
        andon.current_token()


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (None, TypeError)],
)
def test_bad_times(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^seconds must be .* seconds, not {seconds!r}"):
        andon.sleep(seconds)
    with pytest.raises(error, match=f"^max_seconds must be .* seconds, not {seconds!r}"):
        andon.shield(seconds)


def test_how_long_a_wait_may_be() -> None:
    event = andon.Event()
    assert not event.wait(-1), "as with `threading.Event`"
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not 'x'"):
        event.wait("x")  # type: ignore[arg-type]


# In a task --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        andon.check,
        lambda: andon.sleep(0),
        andon.current_token,
        task.task_token,
        lambda: andon.shield(0).__enter__(),
        lambda: Token._at(own_board(), current.slot, current.clear).is_set(),
        lambda: Token._at(own_board(), current.slot, current.clear).wait(0),
    ],
)
def test_what_counts_as_use(running: RowView, use: object) -> None:
    assert not running.used
    use()  # type: ignore[operator]
    assert running.used


def test_what_does_not(running: RowView) -> None:
    event = andon.Event()
    event.is_set()
    event.wait(0)
    event.set()
    event.check  # noqa: B018
    assert not running.used


def pull() -> None:
    own_board().pull(current.slot, current.clear, KIND_CANCEL, None, "why")


def order() -> None:
    row = current.row
    assert row is not None
    row.order(7, 1)
    own_board().nudge(current.slot)
    own_board().ring()


@pytest.mark.parametrize("stop", [pull, order])
@pytest.mark.parametrize("armed", [False, True])
def test_a_stop_is_seen_by_every_later_checkpoint(
    running: RowView, stop: object, armed: bool
) -> None:
    if armed:
        andon.check()
    token = andon.current_token()
    assert not token.is_set()
    thread = later(stop)
    assert andon.sleep(PATIENCE) is True
    thread.join()
    for _ in range(3):
        with pytest.raises(andon.Cancelled) as caught:
            andon.check()
        assert caught.value.token is token
        assert token.is_set() and token.wait(0) and andon.sleep(PATIENCE)
        with pytest.raises(andon.Cancelled):
            token.check()
    assert caught.value.reason == token.reason
    assert token.reason == ("why" if stop is pull else "this task was told to stop")


def test_an_order_for_another_attempt_is_none(running: RowView) -> None:
    andon.check()
    running.order(6, 2)
    own_board().nudge(current.slot)
    andon.check()
    assert not andon.current_token().is_set()


def test_the_next_item_starts_afresh(running: RowView) -> None:
    order()
    with pytest.raises(andon.Cancelled):
        andon.check()
    current.end()
    andon.check()
    current.begin(8, *own_board().allot_word(), 1)
    andon.check()
    assert not andon.current_token().is_set()


def test_cancelling_the_own_token_leaves_a_message_in_the_row(running: RowView) -> None:
    andon.current_token().cancel("bad calibration")
    assert own_board().read(current.slot, current.clear) == (
        KIND_CANCEL, running.number, "bad calibration",
    )  # fmt: skip


def test_shield(running: RowView) -> None:
    pull()
    with pytest.raises(andon.Cancelled):
        with andon.shield(60):
            assert running.shield_until_ns > time.monotonic_ns()
            with andon.shield(0):
                andon.check()
            andon.check()
            andon.current_token().check()
            assert andon.sleep(0.01) is False
    assert running.shield_until_ns == 0


def test_a_shield_lets_an_error_out(running: RowView) -> None:
    pull()
    with pytest.raises(KeyError):
        with andon.shield(60):
            raise KeyError


def test_a_shield_runs_out_while_asleep(running: RowView) -> None:
    pull()
    start = time.monotonic()
    with pytest.raises(andon.Cancelled):
        with andon.shield(0.05):
            assert andon.sleep(PATIENCE) is True
            with pytest.raises(andon.Cancelled):
                andon.check()
    assert 0.05 <= time.monotonic() - start < PATIENCE


def test_a_wait_for_another_event_is_a_checkpoint(running: RowView) -> None:
    event = andon.Event()
    thread = later(pull)
    with pytest.raises(andon.Cancelled):
        event.wait(PATIENCE)
    thread.join()
    event.set()
    assert event.wait(PATIENCE), "what it waits for comes first"


def test_a_thread_of_the_process_waits_for_its_own_event_only(running: RowView) -> None:
    event = andon.Event()
    heard = []
    thread = later(lambda: heard.append(event.wait(PATIENCE)))
    pull()
    event.set()
    thread.join()
    assert heard == [True]


# In a body --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act", [andon.check, lambda: andon.sleep(PATIENCE), lambda: andon.Event().wait(PATIENCE)]
)
def test_in_a_body_operations_raise_the_groups_own(body: Token, act: object) -> None:
    andon.check()
    assert andon.current_token() is body
    assert andon.sleep(0.001) is False
    body._pull(KIND_CANCEL, "why")
    for _ in range(2):
        with pytest.raises(andon.Cancelled) as caught:
            act()  # type: ignore[operator]
        assert (caught.value.token, caught.value.reason) == (body, "why")


def test_a_body_that_sleeps_wakes(body: Token) -> None:
    thread = later(lambda: body._pull(KIND_CANCEL))
    with pytest.raises(andon.Cancelled):
        andon.sleep(PATIENCE)
    thread.join()


def test_a_body_inside_a_task_hears_both(running: RowView, body: Token) -> None:
    andon.check()
    thread = later(pull)
    with pytest.raises(andon.Cancelled) as caught:
        andon.sleep(PATIENCE)
    thread.join()
    assert caught.value.token == task.task_token()
    body._pull(KIND_CANCEL)
    with pytest.raises(andon.Cancelled) as caught:
        andon.check()
    assert caught.value.token is body


# Speed ------------------------------------------------------------------------------------------


def test_a_check_takes_the_fast_path_once_the_token_is_used(
    running: RowView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How fast that is, a benchmark says; here: that nothing but two bytes is looked at."""
    from andon._worker import checkpoint

    andon.check()
    looks: list[int] = []
    monkeypatch.setattr(checkpoint, "_look_closer", lambda: looks.append(1))
    for _ in range(5):
        checkpoint.check()
    assert looks == []
    pull()
    checkpoint.check()
    assert looks == [1]


def test_S8_each_token_keeps_its_own_first_reason() -> None:
    a, b = Token(), Token()
    a.cancel("first")
    b.cancel("second")
    a.cancel("late")
    assert (a.reason, b.reason) == ("first", "second")
