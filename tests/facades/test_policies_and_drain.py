"""Policies of one's own, and groups that drain.

The rules: S6, S7, S9, S11, S14, S35, S37, S39, S40, S45, S50.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import andon
from tests.facades.tasks import (
    drained_group,
    fail_when,
    pull_when,
    sleep_long,
    square,
    token_loop,
)
from tests.support import Stage, eventually

MakeStage = Callable[..., Stage]


class Until:
    """Stops the group when enough have succeeded; raises nothing."""

    failures_only = False
    first_failure_decides = False
    raises = False

    def __init__(self, enough: int, answer: andon.Decision = andon.Decision.CANCEL) -> None:
        self.enough = enough
        self.answer = answer

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        return self.answer if stats.succeeded >= self.enough else andon.Decision.CONTINUE


class AtACancel(Until):
    """Stops the group when a task of it is cancelled."""

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        return self.answer if state == "cancelled" else andon.Decision.CONTINUE


both = pytest.mark.parametrize("answer", [andon.Decision.CANCEL, andon.Decision.DRAIN])


def taken(results: Iterable[Any]) -> list[Any]:
    """What comes before it is stopped."""
    got = []
    try:
        for each in results:
            got.append(each)
    except andon.TaskCancelledError:
        pass
    return got


# A policy that stops the group after something else than a failure ------------------------------


@both
@pytest.mark.parametrize("ordered", [True, False])
def test_S39_a_map_ends_where_a_success_stops_its_group(
    answer: andon.Decision, ordered: bool
) -> None:
    got: list[int] = []
    with andon.TaskGroup(workers=2, policy=Until(3, answer)) as tg:
        for value in tg.imap(square, range(1000), ordered=ordered, buffersize=1):
            got.append(value)
        raise AssertionError("the group's Cancelled ends the loop (S14)")
    assert {0, 1, 4} <= set(got), "what stopped it is handed out first (S45)"
    assert len(got) < 1000
    reason = tg.reason
    assert reason is not None and reason.kind == "failure"
    assert reason.message == f"the policy stopped the group after task {reason.source}"


@both
def test_S39_the_whole_calls_end_as_well(answer: andon.Decision) -> None:
    policy = lambda: Until(3, answer)  # noqa: E731
    with pytest.raises(andon.TaskCancelledError, match="the policy stopped the group after task"):
        andon.map(square, range(1000), workers=2, policy=policy, buffersize=1)
    results = andon.imap(square, range(1000), workers=2, policy=policy, buffersize=1)
    assert {0, 1, 4} <= set(taken(results))


def test_S39_a_cancelled_task_may_stop_its_group(stage: MakeStage) -> None:
    running = stage("running")
    with andon.TaskGroup(workers=2, policy=AtACancel(0)) as tg:
        alone = tg.submit(sleep_long, running)
        running.wait()
        for value in tg.imap(square, range(100_000), buffersize=1):
            if value == 25:
                alone.cancel()
        raise AssertionError("the group's Cancelled ends the loop (S14)")
    assert tg.reason is not None
    assert str(tg.reason) == "failure: the policy stopped the group after task 0 (task 0)"


def test_S39_a_loop_is_told_of_it_too() -> None:
    async def main() -> tuple[list[int], andon.Reason | None]:
        got = []
        async with andon.aio.TaskGroup(workers=2, policy=Until(3)) as tg:
            async for value in tg.imap(square, range(1000), buffersize=1):
                got.append(value)
        return got, tg.reason

    got, reason = asyncio.run(main())
    assert {0, 1, 4} <= set(got) and len(got) < 1000
    assert reason is not None and "the policy stopped the group" in reason.message


# A group that drains may still be stopped (S9) ---------------------------------------------------


def test_S7_S9_a_task_stops_a_group_that_drains(stage: MakeStage) -> None:
    running, bad, go = stage("running"), stage("bad"), stage("go")
    with andon.Pool(3) as pool:
        with (
            pytest.raises(ExceptionGroup) as caught,
            andon.TaskGroup(pool=pool, policy=andon.fail_fast("soon")) as tg,
        ):
            tg.submit(token_loop, running)
            tg.submit(pull_when, go, "enough")
            tg.submit(fail_when, bad)
            running.wait()
            bad.release()
            eventually(lambda: tg.reason)
            go.release()
        assert [str(error) for error in caught.value.exceptions] == ["bad"]
        assert tg.reason is not None and tg.reason.kind == "failure", "the first stays (S8)"
        stopped, puller, _ = tg.outcomes
        assert (stopped.state, stopped.stopped_by) == ("cancelled", "token")
        assert puller.value == "pulled"
        assert pool.apply(square, (3,)) == 9, "the pool is as good as before"


def test_S50_S9_a_linked_event_stops_a_group_that_drains(stage: MakeStage) -> None:
    running, bad, enough = stage("running"), stage("bad"), andon.Event()
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=2, policy=andon.fail_fast("soon"), token=enough) as tg,
    ):
        tg.submit(sleep_long, running)
        tg.submit(fail_when, bad)
        running.wait()
        bad.release()
        eventually(lambda: tg.reason)
        enough.set()
    assert [str(error) for error in caught.value.exceptions] == ["bad"]
    assert tg.outcomes[0].stopped_by == "interrupt"


def test_S37_S9_the_outer_stop_reaches_a_group_that_drains(stage: MakeStage) -> None:
    running, draining = stage("running"), stage("draining")
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, grace=20.0, kill_after=20.0) as tg,
    ):
        tg.submit(drained_group, running, draining)
        running.wait()
        draining.wait()
        tg.cancel("the outer one")
    (inner,) = caught.value.exceptions
    assert isinstance(inner, ExceptionGroup), "it has left by itself, and was not killed"
    assert [str(error) for error in inner.exceptions] == ["the inner one"]


# Policies that are not what they should be -------------------------------------------------------


class Incomplete:
    raises = True

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        return andon.Decision.CONTINUE


class Forgetful(Until):
    """Its author forgot a `return`."""

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        return None  # type: ignore[return-value]


class Slip(Until):
    """It raises once so many have ended, well or not."""

    asked = 0

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        self.asked += 1
        return andon.Decision(1 / (self.enough - stats.done) and "continue")


class Late(Until):
    """It raises when its own stop has made outcomes."""

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        if state == "cancelled":
            raise ZeroDivisionError
        return andon.Decision.CANCEL


class Stubborn(Exception):
    """It lets nobody add a note."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to {name}")


class Noted(Exception):
    """Nor does this."""

    __notes__ = "no list"  # type: ignore[assignment]


class Asks(Until):
    """It raises what it is given, or what asking a token raises."""

    def __init__(self, what: type[BaseException]) -> None:
        super().__init__(0)
        self._what = what
        self.token = andon.Event()
        self.token.set()

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        if self._what is andon.Cancelled:
            self.token.check()
        raise self._what("a slip")


def test_S39_what_a_policy_lacks_is_told_at_once() -> None:
    policy: Any = Incomplete()
    for surface in (andon.TaskGroup, andon.Pool, andon.ProcessPoolExecutor):
        with pytest.raises(TypeError, match="it has no failures_only, first_failure_decides"):
            surface(workers=1, policy=policy)
    with pytest.raises(TypeError, match="is not complete"):
        andon.map(square, [1], policy=lambda: policy)


def test_S39_an_answer_that_is_no_decision_is_an_error() -> None:
    """And no silent stop."""
    with pytest.raises(TypeError, match="answered None, which is no andon"):
        andon.map(square, [1, 2], workers=1, policy=Forgetful(0))


def test_S39_a_policy_that_raises_ends_its_group_alone() -> None:
    """As one more failure, which the user finds: it is not asked again."""
    policy = Slip(3)
    with andon.Pool(1) as pool:
        others = pool.map_async(square, range(100))
        with (
            pytest.raises(ExceptionGroup) as caught,
            andon.TaskGroup(pool=pool, policy=policy) as tg,
        ):
            futures = [tg.submit(square, i) for i in range(5)]
        assert pool.map(square, [2]) == [4] and len(others.get()) == 100
    (error,) = caught.value.exceptions
    assert isinstance(error, ZeroDivisionError) and error.__traceback__ is not None
    assert error.__notes__[0] == "the policy of the group failed so, asked after task 2"
    assert tg.verdict == "failed" and tg.reason is not None
    assert tg.reason.message == "the policy raised ZeroDivisionError: division by zero"
    assert [o.state for o in tg.outcomes] == ["succeeded"] * 3 + ["cancelled"] * 2
    assert futures[2].result() == 4 and policy.asked == 3
    with pytest.raises(andon.TaskCancelledError, match="the policy raised"):
        futures[3].result()


def test_S39_each_surface_raises_what_its_policy_raises() -> None:
    with andon.Pool(1, policy=lambda: Slip(2)) as pool:
        for call in (pool.map, lambda *args: list(pool.imap(*args)), andon.map):
            more = {"policy": Slip(2), "workers": 1} if call is andon.map else {}
            with pytest.raises(ZeroDivisionError) as caught:
                call(square, range(4), **more)  # type: ignore[operator]
            assert "asked after task 1" in caught.value.__notes__[0]
        result = pool.map_async(square, range(4))
        with pytest.raises(ZeroDivisionError):
            result.get()
        assert pool.apply(square, (3,)) == 9, "a call that stands alone has no policy"
    with (
        pytest.raises(ZeroDivisionError),
        andon.ProcessPoolExecutor(1, policy=Slip(1)) as executor,
    ):
        assert executor.submit(square, 2).result() == 4
        with pytest.raises(andon.TaskCancelledError, match="takes no more calls") as refused:
            executor.submit(square, 3)
        assert isinstance(refused.value.__cause__, ZeroDivisionError)


class Undecided(Until):
    """It raises as it is asked for the last time."""

    asked = False

    @property
    def raises(self) -> bool:  # type: ignore[override]
        if self.asked:
            raise ZeroDivisionError
        return False

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        self.asked = True
        return andon.Decision.CONTINUE


def test_S33_a_policy_that_cannot_say_whether_to_raise_hides_no_failure() -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, policy=Undecided(1)) as tg,
    ):
        tg.submit(fail_always, 3)
    assert [type(error) for error in caught.value.exceptions] == [OwnError, ZeroDivisionError]


def test_S39_a_policy_that_raises_after_its_own_decision() -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, policy=Late(0)) as tg,
    ):
        for number in range(3):
            tg.submit(square, number)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert tg.reason is not None and tg.reason.source == 0


def ended_by(error: type[BaseException]) -> tuple[andon.TaskGroup, BaseException]:
    """A group whose policy raises this, and what the group raises; its pool goes on."""
    with andon.Pool(1) as pool:
        with (
            pytest.raises(ExceptionGroup) as caught,
            andon.TaskGroup(pool=pool, policy=Asks(error)) as tg,
        ):
            tg.submit(square, 2)
        assert pool.apply(square, (3,)) == 9
    (told,) = caught.value.exceptions
    return tg, told


@pytest.mark.parametrize("error", [Stubborn, Noted])
def test_S39_an_error_of_a_policy_that_takes_no_note(error: type[Exception]) -> None:
    assert type(ended_by(error)[1]) is error


@pytest.mark.parametrize(
    "error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, andon.Cancelled]
)
def test_S39_S24_a_policy_that_exits_ends_its_group_alone(error: type[BaseException]) -> None:
    tg, told = ended_by(error)
    assert isinstance(told, andon.TaskExitError) and "the policy raised" in str(told)
    assert type(told.original) is error and told.__cause__ is told.original
    assert told.__notes__[0] == "the policy of the group failed so, asked after task 0"
    assert tg.verdict == "failed"


class TooLate(Until):
    """A failure has decided when it slips."""

    raises = True

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        if state == "cancelled":
            raise ZeroDivisionError
        return andon.Decision.CANCEL if state == "failed" else andon.Decision.CONTINUE


class InTime(TooLate):
    """Its slip is the decision, though a failure came before."""

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        return andon.Decision(1 / (2 - stats.done) and "continue")


def test_S43_a_mistake_of_the_policy_stands_behind_the_failure_that_decided() -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, policy=TooLate(0)) as tg,
    ):
        for value in ("no number", "1", "2"):
            tg.submit(int, value)
    assert [type(e) for e in caught.value.exceptions] == [ValueError, ZeroDivisionError]
    with pytest.raises(ValueError, match="no number") as bare:
        andon.map(int, ["no number", "1", "2"], workers=1, chunksize=1, policy=TooLate(0))
    assert "also failed: ZeroDivisionError" in bare.value.__notes__


def test_S43_a_mistake_of_the_policy_that_decided_comes_first() -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, policy=InTime(0)) as tg,
    ):
        for value in ("no number", "1", "2"):
            tg.submit(int, value)
    assert [type(e) for e in caught.value.exceptions] == [ZeroDivisionError, ValueError]


async def _slips(pool: andon.Pool) -> andon.aio.TaskGroup:
    async with andon.aio.TaskGroup(pool=pool, policy=Slip(1)) as tg:
        first = tg.submit(square, 3)
        assert await first == 9
    return tg


def test_S39_a_policy_that_raises_in_asyncio() -> None:
    with andon.Pool(1) as pool:
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(_slips(pool))
        assert pool.apply(square, (3,)) == 9
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


# Failures that nobody will ask for ---------------------------------------------------------------


class OwnError(Exception):
    pass


def fail_always(number: int) -> None:
    raise OwnError(number)


class Tolerate(Until):
    """Says only as it decides that what has failed is to be raised."""

    def on_outcome(self, stats: andon.Stats, state: andon.TaskState) -> andon.Decision:
        if stats.failed < self.enough:
            return andon.Decision.CONTINUE
        self.raises = True
        return andon.Decision.CANCEL


def test_S46_failures_that_are_collected_from_a_stream_are_not_kept() -> None:
    errors = andon.imap(fail_always, range(2000), workers=2, policy=andon.collect_all())
    taken = sum(isinstance(error, OwnError) for error in errors)
    assert taken == 2000
    with andon.TaskGroup(workers=2, policy=andon.collect_all(), keep_outcomes=False) as tg:
        last = list(tg.imap(fail_always, range(2000)))[-1]
        kept = tg._entered().group.failures
        assert len(kept) <= 100
        assert any(outcome.error is last for outcome in kept), "the body may be about to raise it"


def test_S40_but_those_that_a_policy_may_yet_raise_are() -> None:
    with pytest.raises(OwnError) as caught:
        andon.map(fail_always, range(5000), workers=2, policy=lambda: Tolerate(150))
    notes = [note for note in caught.value.__notes__ if note.startswith("also failed")]
    assert len(notes) >= 149
