"""The branches for macOS and Windows, run on Linux as far as they go (see `tests/portable.py`)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import andon
from andon._core.events import Broke, Died, Stopped, Succeeded
from andon._engines.local.platform import macos
from andon.outcome import StoppedBy
from tests import portable
from tests.engine import tasks
from tests.engine.driver import driver
from tests.support import Stage, alive, allowed, crowded, eventually, run_python, wait_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they are run on Linux")

MakeStage = Callable[..., Stage]


@pytest.fixture(params=portable.KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    with portable.engine_of(request.param):
        yield request.param


def test_many_calls_and_large_bodies(kind: str) -> None:
    with driver("spawn", 2) as d:
        assert d.caps.token_latency > 0, "without a bell, words are looked at from time to time"
        assert [d.value(tasks.add, n, 1) for n in range(100)] == list(range(1, 101))
        for length in (10, 70_000, 200_000, 5_000_000):
            assert d.value(tasks.size, b"x" * length) == length
            assert d.value(tasks.big, length) == b"x" * length
        events: list[Any] = d.finish(d.submit_span(tasks.square, list(range(3000))))
        values = [value for event in events for value in event.payload.values]
        assert values == [n * n for n in range(3000)]


@pytest.mark.parametrize("prestart", [True, False])
def test_every_worker_gets_its_share(kind: str, prestart: bool, stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with driver("spawn", 3, prestart=prestart) as d:
        attempts = [d.submit(tasks.hold, running, go) for _ in range(3)]
        assert len(set(d.reached(running, 3))) == 3
        go.release(3)
        assert all(isinstance(d.finish(a)[0], Succeeded) for a in attempts)


@pytest.mark.parametrize(
    ("task", "rung"),
    [
        (tasks.check_loop, StoppedBy.TOKEN),
        (tasks.spin, StoppedBy.INTERRUPT),
        (tasks.nap, StoppedBy.INTERRUPT),
    ],
)
def test_S15_stops_that_unwind(
    kind: str, stage: MakeStage, task: Any, rung: StoppedBy
) -> None:
    running = stage("running")
    with driver("spawn", 2) as d:
        ident = d.submit(task, running)
        pid = int(d.reached(running)[0])
        d.stop()
        (event,) = d.finish(ident)
        assert isinstance(event, Stopped) and event.by is rung
        d.new_group()
        assert (d.value(tasks.my_pid) == pid) is (rung is StoppedBy.TOKEN)


@pytest.mark.parametrize("task", [tasks.swallow, tasks.hold_the_gil, tasks.stop_self])
def test_S15_S19_stops_that_kill(kind: str, stage: MakeStage, task: Any) -> None:
    running = stage("running")
    with driver("spawn") as d:
        ident = d.submit(task, running)
        d.reached(running)
        d.stop(grace=5.0, kill_after=0.3)
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.ordered
        assert event.payload.exitcode == -signal.SIGKILL
        if task is tasks.swallow or (task is tasks.hold_the_gil and kind == "poll"):
            stack = event.payload.stack
            # The kill does not wait for long for the dump of one that gets no core (ladder.py).
            assert crowded() if stack is None else task.__name__ in stack
            assert "_worker" not in (stack or "")
        d.new_group()
        assert d.value(tasks.add, 1) == 1


def test_S20_S22_the_tree_is_gone_before_the_end_is_told(kind: str, stage: MakeStage) -> None:
    """But for orphans: without a subreaper nobody can tell whose they were."""
    running = stage("running")
    with driver("spawn") as d:
        for kill_after in (2.0, 0.0):
            ident = d.submit(tasks.with_children, running)
            *tree, orphan = (int(p) for p in d.reached(running)[0].split())
            d.stop(0.0, kill_after)
            d.finish(ident)
            try:
                assert not any(alive(pid) for pid in tree)
            finally:
                os.kill(orphan, signal.SIGKILL)
            d.new_group()


def test_S25_a_death_is_that_tasks_alone(kind: str) -> None:
    with driver("spawn") as d:
        for task, args, code in (
            (tasks.exit_with, (3,), 3),
            (tasks.kill_self, (signal.SIGTERM,), -signal.SIGTERM),
        ):
            event = d.run(task, *args)
            assert isinstance(event, Died) and not event.ordered
            assert event.payload.exitcode == code
        assert d.value(tasks.add, 1) == 1


def test_S27_what_was_sent_before_a_death_counts(kind: str) -> None:
    with driver("spawn") as d:
        *done, last = d.finish(d.submit_span(tasks.exit_at, list(range(6))))
        values: list[Any] = [v for event in done for v in event.payload.values]  # type: ignore[attr-defined]
        assert values == [0, 1, 2]
        assert isinstance(last, Died) and last.index == 3


def test_S21_a_start_that_fails_is_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macos, "starting_worker", lambda: ["/nowhere/python"])
    with driver("spawn") as d:
        ident = d.submit(tasks.add, 1)
        broke = d.until(d.broke)
        assert isinstance(broke, Broke) and "No such file" in broke.message
        d.finish(ident)


def test_a_worker_that_cannot_be_watched_is_not_left(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    hold = macos.Hold if kind == "poll" else portable.OrderedHold
    monkeypatch.setattr(hold, "started", started)
    with driver("spawn") as d:
        ident = d.submit(tasks.add, 1)
        assert "can't start new thread" in d.until(d.broke).message
        d.finish(ident)


def test_S20_when_the_parent_is_killed_nothing_stays(kind: str) -> None:
    """A thread sees to it, as soon as it has the GIL."""
    code = (
        "import os, signal, time\n"
        "from tests import portable\n"
        "from tests.engine.driver import Driver\n"
        "from tests.support import eventually\n"
        f"with portable.engine_of({kind!r}):\n"
        "    d = Driver('spawn', 2, prestart=True)\n"
        "    d.until(lambda: len(d.engine._idle) == len(d.engine.look()) == 2)\n"
        "    d.submit(time.sleep, 60)\n"
        "    eventually(lambda: any(r.phase == 'running' for r in d.engine.look()))\n"
        "    print(*d.pids(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run_python(["-c", code])
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    wait_gone(pids, allowed(1.0))


def test_only_spawn_is_there(kind: str) -> None:
    if kind == "poll":
        with pytest.raises(ValueError, match="spawn"):
            driver("forkserver").__enter__()


def test_a_group_stops_at_the_first_failure(kind: str, stage: MakeStage) -> None:
    """The whole house on top of it."""
    with pytest.raises(ExceptionGroup) as caught:
        with andon.TaskGroup(workers=2, start_method="spawn") as group:
            sibling = group.submit(tasks.check_loop, stage())
            group.submit(tasks.fail, "stop the line")
    assert [str(error) for error in caught.value.exceptions] == ["stop the line"]
    assert sibling.cancelled()
    eventually(lambda: not group_is_alive())
    assert list(andon.map(tasks.square, range(20), workers=2, start_method="spawn")) == [
        n * n for n in range(20)
    ]


def group_is_alive() -> bool:
    from andon._runtime import registry

    return any(registry.runtimes())


def test_an_event_is_seen_everywhere(kind: str) -> None:
    event = andon.Event()
    with andon.Pool(2, start_method="spawn") as pool:
        waiting = [pool.apply_async(event.wait, (20,)) for _ in range(2)]
        event.set()
        assert [result.get(20) for result in waiting] == [True, True]
