"""How a scope is left where that is disturbed: by a signal handler of the program's own, which
raises while the scope waits for its end, and by an error that cannot even be told.

The rules: S5, S9, S31, S33, S43, S45, S46.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import andon
from tests.facades.tasks import fail_when_stopped, sleep_long, sleep_on, square
from tests.support import Stage, eventually

MakeStage = Callable[..., Stage]
Disturb = Callable[..., None]


class HandlerError(Exception):
    pass


class UntoldError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no words")


@pytest.fixture
def disturb() -> Iterator[Disturb]:
    """Once the body of this group is left, a signal handler raises these, one after the other."""
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []

    def handler(*_: Any) -> None:
        raise errors.pop(0)

    def send(tg: andon.TaskGroup) -> None:
        eventually(lambda: tg._entered().group.body_left)
        while errors:
            left = len(errors)
            threading.Event().wait(0.1)  # the next wait has begun
            os.kill(os.getpid(), signal.SIGUSR1)
            eventually(lambda n=left: len(errors) < n)

    def disturb(tg: andon.TaskGroup, *raised: BaseException) -> None:
        errors.extend(raised)
        threads.append(threading.Thread(target=send, args=(tg,)))
        threads[-1].start()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield disturb
    finally:
        for thread in threads:
            thread.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture(params=["its own workers", "a pool's"])
def where(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if request.param == "its own workers":
        yield {"workers": 1}
        return
    with andon.Pool(1) as pool:
        yield {"pool": pool}
        assert pool.apply(square, (3,)) == 9, "it is as good as before"


def test_S33_what_a_handler_raises_does_not_hide_the_failures(
    where: dict[str, Any], stage: MakeStage, disturb: Disturb
) -> None:
    running, error = stage("running"), HandlerError("now")
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(**where) as tg:
        tg.submit(fail_when_stopped, running)
        running.wait()
        disturb(tg, error)
    first, second = caught.value.exceptions
    assert first is error and str(second) == "a real failure"
    assert tg.reason is not None and tg.reason.kind == "body"
    assert tg.reason.message.endswith("HandlerError: now")
    assert caught.value.andon_group is tg  # S45


def test_S31_it_stands_beside_the_bodys_error(
    where: dict[str, Any], stage: MakeStage, disturb: Disturb
) -> None:
    running, body, error = stage("running"), KeyError("the body's"), HandlerError("now")
    times = {"grace": 1.0, "kill_after": 1.0}
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(**where, **times) as tg:
        tg.submit(sleep_on, running)
        running.wait()
        disturb(tg, error)
        raise body
    assert caught.value.exceptions == (body, error)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_S31_an_exit_leaves_bare_and_says_what_failed(
    where: dict[str, Any], stage: MakeStage, disturb: Disturb, kind: type[BaseException]
) -> None:
    running, leaving = stage("running"), kind(3)
    with pytest.raises(kind) as caught, andon.TaskGroup(**where) as tg:
        tg.submit(fail_when_stopped, running)
        running.wait()
        disturb(tg, leaving)
    assert caught.value is leaving
    assert caught.value.__notes__ == ["task 0 failed: ValueError: a real failure"]
    assert tg.stats.done == 1


def test_S9_a_second_one_kills(where: dict[str, Any], stage: MakeStage, disturb: Disturb) -> None:
    running, first, second = stage("running"), HandlerError("first"), HandlerError("second")
    times = {"grace": 60.0, "kill_after": 60.0}
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(**where, **times) as tg:
        tg.submit(sleep_on, running)
        running.wait()
        disturb(tg, first, second)
    assert caught.value.exceptions == (first, second)
    assert tg.outcomes[0].stopped_by == "kill"


def test_S14_one_that_closes_leaves_the_groups_own_cancelled_absorbed(
    where: dict[str, Any], stage: MakeStage, disturb: Disturb
) -> None:
    running = stage("running")
    times = {"grace": 1.0, "kill_after": 1.0}
    with andon.TaskGroup(**where, **times) as tg:
        tg.submit(sleep_on, running)
        running.wait()
        disturb(tg, GeneratorExit())
        tg.cancel("enough")
        tg.submit(square, 2)  # raises the group's own Cancelled
    assert tg.verdict == "cancelled" and tg.reason is not None and tg.reason.message == "enough"


# Errors whose own `__str__` raises ---------------------------------------------------------------


def test_S31_a_body_error_without_words(where: dict[str, Any], stage: MakeStage) -> None:
    running, error = stage("running"), UntoldError()
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(**where) as tg:
        tg.submit(sleep_long, running)
        running.wait()
        raise error
    assert caught.value.exceptions == (error,)
    assert tg.reason is not None and tg.reason.kind == "body"
    assert "UntoldError: <its __str__ raises" in tg.reason.message
    assert tg.outcomes[0].state == "cancelled"


def test_S46_an_input_error_without_words() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise UntoldError

    with andon.Pool(1) as pool:
        with pytest.raises(UntoldError):
            pool.map(square, items())
        with pytest.raises(UntoldError):
            list(pool.imap(square, items()))
        with pytest.raises(UntoldError):
            andon.map(square, items(), workers=1)
        assert len(pool._runtime._groups) == 1, "none but that of single calls is left open"
        assert pool.apply(square, (3,)) == 9


def test_S5_no_group_stays_open_whatever_fails_in_leaving_it(
    stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler may that raises at this very moment."""
    running = stage("running")
    with andon.Pool(1) as pool:
        with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(pool=pool) as tg:
            tg.submit(sleep_long, running)
            running.wait()

            def judge(_: object) -> None:
                monkeypatch.undo()
                raise HandlerError("in the midst")

            monkeypatch.setattr(tg._entered(), "judge", judge)
        assert [str(error) for error in caught.value.exceptions] == ["in the midst"]
        assert tg.outcomes[0].state == "cancelled"
        assert pool.apply(square, (3,)) == 9
