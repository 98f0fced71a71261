"""`TaskGroup` over real workers: what users see.

The rules: S5, S7, S12 to S15, S19, S23, S29 to S31, S34, S35, S37, S40, S43, S45 to S50.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import andon
from tests.facades.tasks import (
    fail,
    fail_at,
    fail_when,
    hold,
    inner_group,
    nap,
    pid,
    pull,
    set_event,
    sleep_long,
    square,
    token_loop,
    wait_for,
)
from tests.support import Stage, alive, eventually, wait_gone

MakeStage = Callable[..., Stage]


def test_results_and_verdict(start_method: str) -> None:
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        a = tg.submit(square, 3)
        b = tg.submit(pid)
        mapped = list(tg.map(square, range(20)))
    assert a.result() == 9
    assert b.result() != os.getpid()
    assert mapped == [x * x for x in range(20)]
    assert (tg.verdict, tg.reason) == ("ok", None)
    assert [o.index for o in tg.outcomes] == list(range(22))
    assert tg.stats.succeeded == tg.stats.submitted == 22


def test_S23_S43_one_failure_is_an_exception_group(start_method: str) -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=2, start_method=start_method) as tg,
    ):
        good = tg.submit(square, 2)
        good.result()
        tg.submit(fail, "the bad one")
    (error,) = caught.value.exceptions
    assert isinstance(error, ValueError) and str(error) == "the bad one"
    assert "in fail" in str(error.__cause__)  # the user's own frame, from the worker
    assert tg.verdict == "failed"
    assert tg.reason is not None and tg.reason.kind == "failure" and tg.reason.source == 1
    assert good.result() == 4 and caught.value.andon_group is tg  # S45


@pytest.mark.parametrize(
    ("sibling", "rung"), [(token_loop, "token"), (nap, "returned"), (sleep_long, "interrupt")]
)
def test_S15_S19_the_siblings_stop_on_their_rung(
    start_method: str, stage: MakeStage, sibling: Callable[[Stage], object], rung: str
) -> None:
    running, go = stage("running"), stage("go")
    with andon.Pool(2, start_method=start_method) as pool:
        with pytest.raises(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
            tg.submit(sibling, running)
            tg.submit(fail_when, go)
            worker = int(running.word())
            go.release()
        stopped = tg.outcomes[0]
        assert stopped.cancel_requested and stopped.stopped_by == rung
        if rung == "returned":
            assert stopped.ok and stopped.value is True  # S34
        else:
            assert stopped.state == "cancelled" and stopped.started is True
        # S51: a worker that stopped at a checkpoint goes on, an interrupted one leaves.
        if rung == "interrupt":
            wait_gone([worker])
        else:
            assert alive(worker)
        assert pool.map(square, [1, 2, 3]) == [1, 4, 9]


def test_S12_S13_what_waits_never_starts(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=1) as tg:
        tg.submit(fail_when, go)
        waiting = [tg.submit(sleep_long, running) for _ in range(5)]
        go.release()
    assert running.reached() == []
    for future in waiting:
        assert future.cancelled()
        with pytest.raises(andon.TaskCancelledError) as caught:
            future.result()
        assert caught.value.started is False
        assert caught.value.stopped_by == "never-started"
        assert caught.value.reason is tg.reason


def test_S14_the_body_is_one_more_child() -> None:
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1) as tg:
        for i in itertools.count():  # ends by itself, once item 3 has failed
            tg.submit(fail_at, 3, i)
            tg.outcomes  # noqa: B018  # readable at any time
    assert [str(e) for e in caught.value.exceptions] == ["bad item 3"]
    with pytest.raises(andon.GroupClosedError):
        tg.submit(square, 1)


def test_S14_check_and_sleep_in_the_body(stage: MakeStage) -> None:
    left = []
    for operation in (andon.check, lambda: andon.sleep(60)):
        with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=1) as tg:
            tg.submit(fail)
            try:
                while True:
                    operation()
            except BaseException as stop:
                left.append(type(stop))
                raise
    assert left == [andon.Cancelled, andon.Cancelled]


def test_S31_an_error_of_the_body_stops_the_tasks(stage: MakeStage) -> None:
    running = stage("running")
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1) as tg:
        future = tg.submit(sleep_long, running)
        worker = int(running.word())
        raise KeyError("body")
    assert [type(e) for e in caught.value.exceptions] == [KeyError]
    assert tg.reason is not None and tg.reason.kind == "body"
    assert future.cancelled()
    wait_gone([worker])


def test_S31_a_tasks_error_that_leaves_the_body_counts_once() -> None:
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1) as tg:
        tg.submit(fail, "once").result()
    assert [str(e) for e in caught.value.exceptions] == ["once"]
    assert tg.reason is not None and tg.reason.kind == "failure"


def test_S31_system_exit_leaves_bare(stage: MakeStage) -> None:
    running = stage("running")
    with pytest.raises(SystemExit), andon.TaskGroup(workers=1) as tg:
        tg.submit(sleep_long, running)
        running.word()
        raise SystemExit(3)
    assert tg.reason is not None and tg.reason.kind == "body"


@pytest.mark.parametrize("how", ["owner", "token", "task", "event"])
def test_S7_a_cancel_ends_quietly(stage: MakeStage, how: str) -> None:
    running = stage("running")
    event = andon.Event()
    with andon.TaskGroup(workers=2, token=event) as tg:
        future = tg.submit(sleep_long, running)
        running.word()
        if how == "owner":
            tg.cancel("enough")
        elif how == "token":
            tg.token.cancel("enough")
        elif how == "task":
            tg.submit(pull, "enough")
        else:
            event.cancel("enough")
    assert tg.verdict == "cancelled"
    assert tg.reason is not None
    assert (tg.reason.kind, tg.reason.message) == ("cancel", "enough")
    assert tg.reason.source == (1 if how == "task" else None)
    assert future.cancelled()


def test_S30_deadline(stage: MakeStage) -> None:
    running = stage("running")
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1, deadline=0.5) as tg:
        tg.submit(sleep_long, running)
    assert [type(e) for e in caught.value.exceptions] == [andon.GroupTimeoutError]
    assert isinstance(caught.value.exceptions[0], TimeoutError)
    assert tg.reason is not None and tg.reason.kind == "deadline"
    assert [o.state for o in tg.outcomes] == ["cancelled"]


def test_S29_a_tasks_timeout_is_a_failure(start_method: str) -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, start_method=start_method) as tg,
    ):
        quick = tg.submit(square, 5, timeout=60)
        tg.submit(sleep_long, timeout=0.2)
    (error,) = caught.value.exceptions
    assert isinstance(error, andon.TaskTimeoutError) and error.timeout == 0.2
    assert quick.result() == 25
    assert tg.outcomes[1].stopped_by == "interrupt"


def checks_for_ever() -> None:
    while True:
        andon.check()


def sleeps_in_a_handler() -> None:
    try:
        raise ValueError("first")
    except ValueError:
        andon.sleep(60)
        andon.check()


class SlowToSay(Exception):
    def __str__(self) -> str:
        time.sleep(60)
        return ""


def sleeps_beside_a_slow_error() -> None:
    try:
        raise SlowToSay
    except SlowToSay:
        time.sleep(60)


def goes_down(levels: int) -> None:
    if levels:
        goes_down(levels - 1)
    while True:
        pass


def cleans_up_badly() -> None:
    try:
        time.sleep(60)
    finally:
        raise OSError("no room")


@pytest.mark.parametrize(
    ("task", "args", "line"),
    [
        (time.sleep, (60,), None),
        (sleep_long, (), "time.sleep(60)"),
        (checks_for_ever, (), "andon.check()"),
        (sleeps_in_a_handler, (), "andon.check()"),
        (sleeps_beside_a_slow_error, (), "time.sleep(60)"),
        (goes_down, (200,), "goes_down"),
        (cleans_up_badly, (), None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_S29_a_timeout_says_where_the_task_was(
    start_method: str, task: Callable[..., None], args: tuple[int, ...], line: str | None
) -> None:
    with andon.TaskGroup(
        workers=1, start_method=start_method, policy=andon.collect_all(), grace=5
    ) as tg:
        tg.submit(task, *args, timeout=0.2)
    (outcome,) = tg.outcomes
    assert isinstance(outcome.error, andon.TaskTimeoutError)
    where = outcome.error.__cause__
    assert outcome.stopped_by == ("token" if "check" in str(line) else "interrupt")
    if line is None:  # there is no line of the user's; or the clean-up's error tells of it
        assert where is None and not outcome.error.__suppress_context__
        return
    assert isinstance(where, andon.RemoteTraceback)
    frames = [part for part in where.text.splitlines() if part.startswith("  File ")]
    assert frames and all(__file__ in f or sleep_long.__code__.co_filename in f for f in frames)
    assert line in where.text
    assert "Cancelled" in where.text.splitlines()[-1]
    assert "Cancelled" in repr(where)


def test_S35_cancel_one_task_running_or_not(start_method: str, stage: MakeStage) -> None:
    running, held, go = stage("running"), stage("held"), stage("go")
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        runs = tg.submit(sleep_long, running)
        other = tg.submit(hold, held, go)
        waits = tg.submit(square, 1)
        running.word(), held.word()
        assert runs.running() and not waits.running()
        assert waits.cancel() and waits.cancelled()
        assert runs.cancel()
        with pytest.raises(andon.TaskCancelledError) as caught:
            runs.result(20)
        assert caught.value.stopped_by == "interrupt" and caught.value.reason is None
        go.release()
    assert other.result() == "released"
    assert not other.cancel()
    assert tg.verdict == "ok"


def test_S37_a_group_in_a_task_is_stopped_with_it(start_method: str, stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=2, start_method=start_method) as tg,
    ):
        tg.submit(inner_group, running)
        tg.submit(fail_when, go)
        grandchild = int(running.word())
        go.release()
    assert [type(e) for e in caught.value.exceptions] == [ValueError]
    assert not alive(grandchild)
    assert tg.outcomes[0].state == "cancelled" and tg.outcomes[0].stopped_by == "token"


def test_S37_a_group_within_the_body_of_another(stage: MakeStage) -> None:
    running = stage("running")
    with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=1) as outer:
        with andon.TaskGroup(workers=1) as inner:
            inner.submit(sleep_long, running)
            running.word()
            outer.submit(fail)
        pytest.fail("the outer stop is raised where the inner group ends")
    assert inner.reason is not None and inner.reason.kind == "parent"


def test_S40_collect_all_raises_nothing() -> None:
    with andon.TaskGroup(workers=2, policy=andon.collect_all()) as tg:
        for i in range(6):
            tg.submit(fail_at, i % 2, i)
    assert tg.verdict == "ok"
    assert [o.state for o in tg.outcomes] == ["failed", "failed"] + ["succeeded"] * 4


def test_S50_an_event_travels_any_way(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    event = andon.Event()
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        waiter = tg.submit(wait_for, event, running)
        running.word()
        tg.submit(set_event, {"event": event})
        assert event.wait(20)
    assert waiter.result() is True
    assert tg.verdict == "ok"


def test_map_that_nobody_iterates_runs_all_the_same() -> None:
    with andon.TaskGroup(workers=2) as tg:
        tg.map(square, range(10))
        tg.map(square, iter(range(10)))
        tg.map(square, iter(range(100_000)))  # more than is read ahead of results
    assert tg.stats.succeeded == 100_020


def endless_into(read: list[int]) -> Iterator[int]:
    for i in itertools.count():
        read.append(i)
        yield i


def test_a_map_of_an_endless_input_that_nobody_iterates_ends_by_a_stop() -> None:
    read: list[int] = []

    def cancel_later() -> None:
        eventually(lambda: len(read) > 70_000)  # more than is read ahead of results
        tg.cancel()

    with andon.TaskGroup(workers=1, keep_outcomes=False) as tg:
        tg.map(square, endless_into(read))
        canceller = threading.Thread(target=cancel_later)
        canceller.start()
    canceller.join()
    assert tg.reason is not None and tg.reason.kind == "cancel"


def test_what_a_loop_that_was_left_has_not_read_is_not_run() -> None:
    read: list[int] = []
    with andon.TaskGroup(workers=1) as tg:
        next(tg.map(square, endless_into(read), buffersize=4))
    assert tg.stats.succeeded == len(tg.outcomes) <= len(read) <= 6


def test_S46_an_endless_input_is_read_lazily() -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        for i in itertools.count():
            read.append(i)
            yield i

    with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=2) as tg:
        got = []
        for r in tg.map(fail_at_100, endless()):
            got.append(r)
    assert got == list(range(len(got))) and len(got) <= 100
    assert len(read) < 100_000


def fail_at_100(x: int) -> int:
    return fail_at(100, x)


def test_S46_an_error_of_the_input_is_the_bodys() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the input")

    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1) as tg:
        for _ in tg.map(square, broken()):
            pass
    assert [type(e) for e in caught.value.exceptions] == [OSError]
    assert tg.reason is not None and tg.reason.kind == "body"


def test_S46_a_failure_does_not_wait_for_a_blocked_input() -> None:
    never = threading.Event()

    def blocked() -> Iterator[int]:
        yield 1
        never.wait(30)

    try:
        with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=1) as tg:
            for _ in tg.map(fail_at_one, blocked()):
                pass
    finally:
        never.set()
    assert tg.verdict == "failed"


def fail_at_one(x: int) -> int:
    return fail_at(1, x)


def test_S47_callbacks_run_all_and_may_do_anything() -> None:
    said: list[object] = []
    done = threading.Event()
    with andon.TaskGroup(workers=1) as tg:
        held = threading.Event()
        future = tg.submit(square, 2)
        future.add_done_callback(lambda f: said.append(f.result()))
        future.add_done_callback(lambda f: 1 / 0)
        future.add_done_callback(lambda f: said.append(tg.submit(square, 3)))
        future.add_done_callback(lambda f: done.set())
        assert done.wait(20)
        held.set()
    assert said[0] == 4
    assert isinstance(said[1], andon.Future) and said[1].result() == 9


def test_the_inline_engine_runs_in_this_process() -> None:
    with pytest.raises(ExceptionGroup), andon.TaskGroup(engine="inline") as tg:
        here = tg.submit(pid)
        tg.submit(fail)
        tg.submit(square, 2)
    assert here.result() == os.getpid()
    assert [o.state for o in tg.outcomes] == ["succeeded", "failed", "cancelled"]


def test_S14_a_wait_of_the_body_for_a_stopped_task_is_no_error_of_its_own(
    stage: MakeStage,
) -> None:
    running = stage("running")
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=2) as tg:
        stopped = tg.submit(sleep_long, running)
        running.word()
        tg.submit(fail, "the cause")
        stopped.result()
    assert [str(e) for e in caught.value.exceptions] == ["the cause"]


def test_S48_every_transition_is_a_trace_event() -> None:
    seen: list[andon.TraceEvent] = []
    with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=1, trace=seen.append) as tg:
        tg.submit(fail)
        tg.submit(square, 2)
    steps = [(e.task, e.before, e.after) for e in seen]
    assert steps[:1] == [(0, "pending", "sent")]
    assert [after for task, _, after in steps if task == 0][-1] == "failed"
    assert (None, "cancelling", "closed") in steps
    assert steps.count((1, "pending", "cancelled")) + steps.count((1, "stopping", "cancelled")) == 1
    assert [e.at for e in seen] == sorted(e.at for e in seen)


def test_S49_strict_refuses_an_engine_that_cannot_kill() -> None:
    with pytest.raises(ValueError, match="can kill"):
        andon.TaskGroup(engine="inline", strict=True).__enter__()


def test_S35_one_inline_task_is_cancelled_alone() -> None:
    begun = threading.Event()

    def loop() -> None:
        begun.set()
        while True:
            andon.check()

    with andon.TaskGroup(engine="inline") as tg:
        future = tg.submit(loop)
        assert begun.wait(20)
        assert future.cancel()
        other = tg.submit(square, 3)
    assert future.cancelled() and other.result() == 9


def test_a_draining_group_starts_no_item_of_a_span() -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, policy=andon.fail_fast("soon")) as tg,
    ):
        list(tg.map(fail_at_one, range(50), chunksize=50))
    assert [str(e) for e in caught.value.exceptions] == ["bad item 1"]
    assert sum(bool(o.started) for o in tg.outcomes) <= 3


def test_S31_an_error_out_of_a_signal_handler_stops_the_group_as_a_bodys_does(
    start_method: str, stage: MakeStage
) -> None:
    """Also where the `with` waits already."""
    running = stage("running")

    def handler(*_: object) -> None:
        raise SystemExit(5)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SystemExit) as caught:
            with andon.TaskGroup(workers=1, start_method=start_method) as tg:
                tg.submit(_announce_and_sleep, running)
                running.wait()
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value.code == 5
    assert tg.reason is not None and tg.reason.kind == "body"
    assert [o.stopped_by for o in tg.outcomes] == ["interrupt"]


def _announce_and_sleep(running: Stage) -> None:
    running.reach()
    time.sleep(60)


def test_wrong_arguments_are_told_of_by_the_name_that_users_know() -> None:
    with pytest.raises(TypeError, match=r"^TaskGroup\(\) got an unexpected .*'max_workers'"):
        andon.TaskGroup(max_workers=2)  # type: ignore[call-arg]
