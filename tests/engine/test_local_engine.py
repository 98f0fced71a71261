"""The local engine by itself, under every start method."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from psutil import Process

from andon import _wire
from andon._board import row as _row
from andon._core.events import AttemptEnded, Died, Event, Failed, Stopped, Succeeded
from andon._engines.local import (
    climber,
    crew,
    descriptors,
    ladder,
    lives,
    template,
    template_process,
)
from andon._engines.local.ledger import Ledger
from andon._engines.local.lone import Lone
from andon._engines.payloads import Rang
from andon._engines.port import Attempt, Call, GroupRef
from andon._worker import children, linger, state
from andon.errors import InitializerError, PoolBrokenError, SerializationError
from andon.outcome import StoppedBy
from andon.token import Token
from tests.engine import tasks
from tests.engine.driver import Driver, driver
from tests.support import PATIENCE, Stage, allowed, busy, crowded, eventually, run_python, wait_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

MakeStage = Callable[..., Stage]


# What tasks do ------------------------------------------------------------------------------------


def test_values_come_back(start_method: str) -> None:
    with driver(start_method, 2) as d:
        event: Any = d.run(tasks.add, 1, b=2)
        assert isinstance(event, Succeeded)
        assert (event.index, event.count, event.payload.values) == (0, 1, [3])
        assert event.payload.started_at <= event.payload.ended_at <= time.monotonic()
        numbers = [d.submit(tasks.square, i) for i in range(200)]
        results: list[Any] = [d.finish(n)[0] for n in numbers]
        assert [r.payload.values for r in results] == [[i * i] for i in range(200)]


def test_a_workers_error_comes_back_with_its_traceback(start_method: str) -> None:
    with driver(start_method) as d:
        event: Any = d.run(tasks.fail, "wrong")
        assert isinstance(event, Failed) and event.started
        error = event.payload.error
        assert type(error) is ValueError and error.args == ("wrong",)
        assert "tasks.py" in str(error.__cause__) and "raise ValueError(text)" in str(
            error.__cause__
        )
        assert d.value(tasks.add, 1, 1) == 2


def test_S45_a_span_reports_every_item_of_its_own(start_method: str) -> None:
    with driver(start_method) as d:
        events: list[Any] = d.finish(d.submit_span(tasks.square, list(range(1000))))
        assert [v for e in events for v in e.payload.values] == [i * i for i in range(1000)]
        assert [e.index for e in events] == [
            sum(e.count for e in events[:n]) for n in range(len(events))
        ]
        events = d.finish(d.submit_span(tasks.fail_at, list(range(6))))
        assert [(type(e), e.index) for e in events if isinstance(e, Failed)] == [(Failed, 3)]
        assert [v for e in events if isinstance(e, Succeeded) for v in e.payload.values] == [
            0, 1, 2, 4, 5,
        ]  # fmt: skip


def test_part_of_a_span(start_method: str) -> None:
    with driver(start_method) as d:
        for items in ([(i, 10) for i in range(9)], [[i, 10] for i in range(9)]):
            ident = d.submit_span(tasks.add, items, 3, 7, star=True)
            events: list[Any] = d.finish(ident)
            assert events[0].index == 3
            assert [v for e in events for v in e.payload.values] == [13, 14, 15, 16]


def test_S11_the_first_failure_pulls_the_word_itself(start_method: str) -> None:
    with driver(start_method) as d:
        order: list[str] = []
        d.on_post = lambda events: order.extend(type(e).__name__ for e in events)
        # The first one fails: where it takes long, as it may on a busy machine, the others are
        # given back.
        events = d.finish(d.submit_span(tasks.fail_at, [3] * 6, fatal=True))
        (failed,) = [e for e in events if isinstance(e, Failed)]
        assert failed.index == 0
        assert d.group.token.is_set()
        assert order.index("Rang") < order.index("Failed")


def test_when_a_word_was_pulled_the_puller_is_still_shown_with_its_attempt(
    start_method: str,
) -> None:
    """Even where its next attempt already waits (the runtime asks whose cord it was)."""
    with driver(start_method) as d:
        seen: list[Any] = []

        def look(events: list[Event]) -> None:
            if isinstance(events[0], Rang):
                pulled = d.group.token._pulled()
                if pulled is not None:
                    with d.config.lock:
                        rows = [r for r in d.engine.look() if r.row == pulled[1]]
                    seen.extend((r.attempt, r.index, pulled.message) for r in rows)

        d.value(tasks.add, 1)
        d.on_post = look
        first = d.submit_span(tasks.fail_at, list(range(6)), fatal=True)
        second = d.submit(tasks.add, 1)
        d.finish(second)
        assert seen[0] == (first, 3, "ValueError: item 3")


@pytest.mark.parametrize(
    ("sibling", "polite"), [(tasks.check_loop, True), (tasks.nap, False)], ids=["loop", "nap"]
)
def test_S11_who_stop_by_themselves_tell_before_we_look(
    start_method: str,
    stage: MakeStage,
    monkeypatch: pytest.MonkeyPatch,
    sibling: Any,
    polite: bool,
) -> None:
    """Where no signal of ours is wanted; and still the word is posted before what they tell."""
    running = stage("running")
    with driver(start_method, workers=2) as d:
        ids = [d.submit(sibling, running)]
        d.reached(running)
        ways: list[bool] = []
        monkeypatch.setattr(linger, "give_way", lambda: ways.append(d.group.token.is_set()))
        posted: list[str] = []
        d.on_post = lambda events: posted.extend(type(e).__name__ for e in events)
        ids.append(d.submit(tasks.fail, "first", fatal=True))
        d.until(lambda: "Rang" in posted and d.group.token.is_set())
        assert any(ways) is polite
        d.stop()
        for ident in ids:
            d.finish(ident)
        assert posted.index("Rang") < posted.index("Failed")


@pytest.mark.parametrize("how", ["exit", "interrupt", "generator"])
def test_S24_leaving_is_failing(start_method: str, how: str) -> None:
    with driver(start_method) as d:
        event: Any = d.run(tasks.leave, how)
        assert isinstance(event, Failed)
        assert isinstance(event.payload.error, SystemExit | KeyboardInterrupt | GeneratorExit)
        assert d.value(tasks.add, 1) == 1


# Pickling (S28) -----------------------------------------------------------------------------------


def test_what_cannot_be_pickled_fails_in_the_submitting_thread() -> None:
    with driver("forkserver") as d:
        with pytest.raises(SerializationError, match=r"args\[1\]") as caught:
            d.pack(tasks.take, 1, tasks.CannotPickle())
        assert caught.value.where == "parent" and "not me" in caught.value.original
        with pytest.raises(SerializationError, match="item 2"):
            d.caps.pack(Call(tasks.take, items=[1, [2], tasks.CannotPickle()]))
        with pytest.raises(SerializationError, match="function"):
            d.pack(threading.Lock().acquire)
        assert not d.pids()


@pytest.mark.parametrize(
    ("call", "what", "where"),
    [
        ((tasks.take, tasks.CannotUnpickle()), "the arguments", "worker"),
        ((tasks.make, tasks.CannotPickle), "result", "worker"),
        ((tasks.make, threading.Lock), "result", "worker"),
        ((tasks.make, tasks.CannotUnpickleElsewhere), "the result", "parent"),
        ((tasks.raise_picky,), "the exception", "parent"),
        ((tasks.raise_unpicklable,), "the exception", "worker"),
    ],
)
def test_what_cannot_travel_fails_its_own_task(
    start_method: str, call: tuple[Any, ...], what: str, where: str
) -> None:
    with driver(start_method) as d:
        event: Any = d.run(*call)
        assert isinstance(event, Failed)
        error = event.payload.error
        assert isinstance(error, SerializationError)
        assert what in error.what and error.where == where and str(error)
        assert event.started is (where == "parent" or "arguments" not in what)
        assert d.value(tasks.add, 1, 2) == 3


def test_one_bad_item_of_a_span_fails_alone(start_method: str) -> None:
    with driver(start_method) as d:
        items = [[0], [1], tasks.CannotUnpickle(), [3]]
        events: list[Any] = d.finish(d.submit_span(tasks.take, items))
        assert [(type(e).__name__, e.index) for e in events if isinstance(e, Failed)] == [
            ("Failed", 2)
        ]
        assert sum(e.count for e in events if isinstance(e, Succeeded)) == 3


def test_functions_by_value_are_sent_as_they_are_now(start_method: str) -> None:
    with driver(start_method) as d:
        factor = 2
        scaled = lambda x: x * factor  # noqa: E731
        assert d.value(scaled, 10) == 20
        factor = 3
        assert d.value(scaled, 10) == 30


def test_functions_that_nobody_needs_are_forgotten() -> None:
    with driver("forkserver") as d:
        for i in range(200):
            assert d.value(eval(f"lambda x: x + {i}"), 1) == i + 1
        (worker,) = d.engine._crew.workers.values()
        assert len(worker.known) < 100


@pytest.mark.parametrize("length", [1 << 16, (1 << 16) + 1, 1 << 20, 50 << 20])
def test_large_payloads_both_ways(start_method: str, length: int) -> None:
    with driver(start_method) as d:
        assert d.value(tasks.size, b"x" * length) == length
        assert len(d.value(tasks.big, length)) == length
        items = [b"y" * length] * 2
        events: list[Any] = d.finish(d.submit_span(tasks.size, items))
        assert [v for e in events for v in e.payload.values] == [length, length]


def test_a_large_request_does_not_block_its_sender(start_method: str, stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with driver(start_method) as d:
        held = d.submit(tasks.hold, running, go)
        d.reached(running)
        packed = d.pack(tasks.size, b"x" * (200 << 20))
        second = d.submit_packed(packed, 0, 1)
        go.release()
        d.finish(held)
        assert d.finish(second)[0].payload.values == [200 << 20]  # type: ignore[attr-defined]


# Deaths (S25 to S27) ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "code", "text"),
    [
        ((tasks.exit_with, 3), 3, "exited with status 3 while running the task"),
        ((tasks.exit_with, 0), 0, "exited with status 0"),
        ((tasks.segfault,), -signal.SIGSEGV, "died of SIGSEGV"),
        ((tasks.kill_self, signal.SIGKILL), -signal.SIGKILL, "out of memory"),
        ((tasks.kill_self, signal.SIGTERM), -signal.SIGTERM, "died of SIGTERM"),
    ],
)
def test_S25_a_death_is_its_own_tasks_failure(
    start_method: str, call: tuple[Any, ...], code: int, text: str
) -> None:
    with driver(start_method) as d:
        event: Any = d.run(*call)
        assert isinstance(event, Died) and not event.ordered
        assert (event.index, event.started) == (0, True)
        death = event.payload
        assert death.exitcode == code and death.phase == "running"
        assert text in death.text and str(death.pid) in death.text
        assert d.value(tasks.add, 1, 2) == 3


def test_S25_exit_codes_are_known_where_the_program_ignores_sigchld(start_method: str) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from tests.engine import tasks\n"
        "from tests.engine.driver import driver\n"
        f"with driver({start_method!r}) as d:\n"
        "    print(d.run(tasks.segfault).payload.exitcode, d.run(os._exit, 7).payload.exitcode)\n"
        "    print(int(d.value(signal.getsignal, signal.SIGCHLD)))\n"
    )
    done = run_python(["-c", code])
    codes, ignored = done.stdout.splitlines()
    assert codes == f"{-signal.SIGSEGV} 7", done.stderr
    assert ignored == "1" or start_method == "spawn"  # there a shell has set it back


def test_a_death_while_unpickling_says_so(start_method: str) -> None:
    with driver(start_method) as d:
        event: Any = d.run(tasks.take, tasks.DiesUnpickling())
        assert isinstance(event, Died)
        assert (event.index, event.started, event.payload.phase) == (0, False, "unpickling")
        assert "while unpickling the arguments" in event.payload.text


def test_S27_S45_a_death_in_a_span_leaves_what_was_done(start_method: str) -> None:
    with driver(start_method) as d:
        events: list[Any] = d.finish(d.submit_span(tasks.exit_at, list(range(6))))
        *done, died = events
        assert [v for e in done for v in e.payload.values] == [0, 1, 2]
        assert isinstance(died, Died) and (died.index, died.started) == (3, True)


def test_S27_a_torn_result_does_not_count(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(tasks.die_sending, 200 << 20, running)
        pid = int(d.reached(running)[0])
        crew = d.engine._crew
        d.until(lambda: any(w.reader._filled for w in crew.workers.values()))
        os.kill(pid, signal.SIGKILL)
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.payload.phase == "sending"
        assert d.value(tasks.add, 1) == 1


def test_a_worker_that_dies_idle_is_replaced(start_method: str) -> None:
    with driver(start_method) as d:
        first = d.value(tasks.my_pid)
        os.kill(first, signal.SIGKILL)
        d.until(lambda: d.pids() and first not in d.pids())
        assert d.value(tasks.my_pid) != first


def test_what_was_given_to_a_dead_worker_never_started(start_method: str) -> None:
    with driver(start_method) as d:
        first = d.value(tasks.my_pid)
        pidfd = os.pidfd_open(first)
        os.kill(first, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        os.close(pidfd)
        # The engine has not looked yet: it writes into a pipe that nobody reads.
        (event,) = d.finish(d.submit(tasks.add, 1))
        assert isinstance(event, Died)
        assert (event.index, event.started, event.ordered) == (None, False, False)


def test_S42_workers_that_die_again_and_again_end_the_pool(start_method: str) -> None:
    with driver(start_method, initializer=tasks.die_initialising) as d:
        ident = d.submit(tasks.add, 1)
        broke = d.until(d.broke)
        assert isinstance(broke.payload, PoolBrokenError)
        assert "exited with status 9 while running the initializer" in broke.message
        d.finish(ident)
        assert d.finish(d.submit(tasks.add, 1)) == []  # over, never started


def test_S42_an_initializer_that_raises_ends_the_pool_at_once(start_method: str) -> None:
    with driver(start_method, 2, initializer=tasks.fail_to_initialise) as d:
        d.submit(tasks.add, 1)
        broke = d.until(d.broke)
        assert isinstance(broke.payload, InitializerError)
        assert "LookupError: no such table" in broke.message
        assert "fail_to_initialise" in str(broke.payload.__cause__)


def test_the_initializer_runs_once_per_worker(start_method: str) -> None:
    with driver(start_method, initializer=tasks.initialise, initargs=(1, "two")) as d:
        for _ in range(3):
            (told,) = d.value(tasks.was_initialised)
            assert told[1] == (1, "two")


def test_under_fork_the_initializer_need_not_be_picklable() -> None:
    lock = threading.Lock()
    with driver("fork", initializer=tasks.initialise, initargs=(lock,)) as d:
        assert d.value(lambda: len(tasks.initialised)) == 1


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_locks_of_multiprocessing_travel_as_initargs(method: str) -> None:
    # In a process of its own: a lock leaves a resource tracker behind.
    code = (
        "import multiprocessing\n"
        "from andon.errors import SerializationError\n"
        "from tests.engine import tasks\n"
        "from tests.engine.driver import Driver, driver\n"
        f"context = multiprocessing.get_context({method!r})\n"
        "lock = context.Lock()\n"
        f"with driver({method!r}, initializer=tasks.initialise, initargs=(lock,)) as d:\n"
        "    with lock: print(d.value(tasks.try_lock))\n"
        "    print(d.value(tasks.try_lock))\n"
        "try:\n"
        "    end, _ = context.Pipe()\n"
        f"    Driver({method!r}, initializer=tasks.initialise, initargs=(end,))\n"
        "except SerializationError as error:\n"
        "    print(error)\n"
        "print(multiprocessing.context.get_spawning_popen())\n"
    )
    done = run_python(["-c", code])
    held, free, message, context = done.stdout.splitlines()
    assert (held, free, context) == ("False", "True", "None"), done.stderr
    assert "manager's queue" in message


def test_max_tasks_per_worker(start_method: str) -> None:
    with driver(start_method, max_tasks_per_worker=2) as d:
        pids = [d.value(tasks.my_pid) for _ in range(6)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


def test_a_lost_template_costs_the_running_tasks_only(stage: MakeStage) -> None:
    for method in ("forkserver", "spawn"):
        running = stage("running")
        with driver(method, 2) as d:
            ident = d.submit(tasks.with_children, running)
            pids = [int(p) for p in d.reached(running)[0].split()]
            assert d.value(tasks.add, 1) == 1
            link = d.engine._crew._link
            assert link is not None
            os.kill(link.template.pid, signal.SIGKILL)
            (event,) = d.finish(ident)
            assert isinstance(event, Died) and not event.ordered
            assert event.payload.exitcode is None and "was lost" in event.payload.text
            wait_gone(pids, 2.0)
            assert d.value(tasks.add, 1) == 1


def test_a_lost_template_ends_a_pool_under_fork(stage: MakeStage) -> None:
    running = stage("running")
    with driver("fork") as d:
        ident = d.submit(tasks.nap, running)
        pid = int(d.reached(running)[0])
        link = d.engine._crew._link
        assert link is not None
        os.kill(link.template.pid, signal.SIGKILL)
        broke = d.until(d.broke)
        assert isinstance(broke.payload, PoolBrokenError)
        d.finish(ident)
        wait_gone([pid], 2.0)


@pytest.mark.parametrize("born", [False, True])
def test_S20_S22_a_template_that_dies_between_two_launches(
    start_method: str, born: bool, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had started goes with it, told or not, and is replaced."""
    monkeypatch.setattr(crew, "AT_ONCE", 3)
    running = stage("running")
    with driver(start_method, 3) as d:
        link = d.engine._crew._link
        assert link is not None
        launcher = Process(link.template.pid)
        idents = [d.submit(tasks.nap, running)] if born else []
        first = {p.pid for p in eventually(launcher.children)} if born else set()
        launcher.kill()
        os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
        while len(idents) < 3:
            idents.append(d.submit(tasks.nap, running))
        if start_method == "fork":
            assert isinstance(d.until(d.broke).payload, PoolBrokenError)
        else:
            others: set[int] = set()

            def all_told() -> bool:
                others.update(int(pid) for pid in running.reached() if int(pid) not in first)
                return len(others) + sum(map(d.over, idents)) == 3

            d.until(all_told, step=0.005)
            assert len(others) >= 2
        wait_gone(list(first))
        d.stop(0.0, 0.0)
        for ident in idents:
            d.finish(ident)


def test_S21_a_template_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "BIRTH_WITHIN", 0.2)
    with driver("forkserver") as d:
        link = d.engine._crew._link
        assert link is not None
        os.kill(link.template.pid, signal.SIGSTOP)
        ident = d.submit(tasks.add, 1)
        monkeypatch.undo()  # the next one may take its time
        d.until(lambda: d.engine._crew._link is not link)
        (event,) = d.finish(ident)
        assert isinstance(event, Succeeded)


@pytest.mark.parametrize("kind", ["descriptors", "rows"])
def test_resources_that_run_out_are_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with driver("forkserver") as d:
        first = d.value(tasks.my_pid)
        board = d.engine._crew._board
        if kind == "descriptors":
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        else:
            monkeypatch.setattr(
                type(board), "allot_row", lambda self: (_ for _ in ()).throw(RuntimeError("full"))
            )
        try:
            os.kill(first, signal.SIGKILL)
            slot = d.engine._crew.slots[0]
            d.until(lambda: slot.budget.tries >= 3)
        finally:
            if kind == "descriptors":
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            monkeypatch.undo()
        assert d.value(tasks.my_pid) != first
        assert d.broke() is None


def test_resources_that_never_come_back_end_the_pool() -> None:
    with driver("forkserver") as d:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            ident = d.submit(tasks.add, 1)
            broke = d.until(d.broke)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert isinstance(broke.payload, PoolBrokenError)
        assert "Too many open files" in broke.message
        d.finish(ident)


# Stops (S15 to S19) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sibling", "rung"),
    [
        (tasks.check_loop, StoppedBy.TOKEN),
        (tasks.nap, StoppedBy.INTERRUPT),
        (tasks.spin, StoppedBy.INTERRUPT),
        (tasks.with_threads, StoppedBy.INTERRUPT),
    ],
)
def test_S15_stops_that_unwind(
    start_method: str, stage: MakeStage, sibling: Any, rung: StoppedBy
) -> None:
    running = stage("running")
    with driver(start_method, 2) as d:
        ident = d.submit(sibling, running)
        pid = int(d.reached(running)[0])
        d.stop()
        (event,) = d.finish(ident)
        assert isinstance(event, Stopped)
        assert (event.by, event.started, event.index) == (rung, True, 0)
        if sibling is tasks.with_threads:
            assert not os.path.exists(f"/proc/{pid}"), "S5: what it leaves goes first"
        elif rung is StoppedBy.INTERRUPT:
            wait_gone([pid])
        d.new_group()
        again = {d.value(tasks.my_pid) for _ in range(2)}
        assert (pid in again) is (rung is StoppedBy.TOKEN)


def test_S5_what_an_interrupted_task_has_open_is_closed_when_that_is_told(
    start_method: str, stage: MakeStage
) -> None:
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(tasks.listen, running)
        port = int(d.reached(running)[0])
        d.stop()
        (event,) = d.finish(ident)
        assert event.by is StoppedBy.INTERRUPT
        with socket.socket() as ours:
            ours.bind(("127.0.0.1", port))


def test_S15_short_items_end_by_themselves(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(climber, "IN_LANE", PATIENCE)
    with driver(start_method) as d:
        before = d.value(tasks.my_pid)
        items: Any = range(100_000_000)
        ident = d.submit_span(lambda item: None, items)
        (worker,) = d.engine._crew.workers.values()
        eventually(lambda: worker.row.in_lane)
        d.stop()
        assert all(isinstance(event, Succeeded) for event in d.finish(ident))
        d.new_group()
        assert d.value(tasks.my_pid) == before


@pytest.mark.parametrize("sibling", [tasks.swallow, tasks.hold_the_gil, tasks.stop_self])
def test_S15_S19_stops_that_kill(start_method: str, stage: MakeStage, sibling: Any) -> None:
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(sibling, running)
        pid = int(d.reached(running)[0])
        if sibling is tasks.stop_self:
            eventually(lambda: Process(pid).status() == "stopped")
        began = time.monotonic()
        d.stop(grace=5.0, kill_after=0.3)
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.ordered
        assert (event.index, event.started) == (0, True)
        assert event.payload.exitcode == -signal.SIGKILL
        assert 0.29 < time.monotonic() - began < allowed(2.0)
        if sibling is not tasks.stop_self:
            stack = event.payload.stack
            # The kill does not wait for the dump of one that gets no core (ladder.py).
            assert crowded() if stack is None else sibling.__name__ in stack
            assert "_worker" not in (stack or "")
        assert not os.path.exists(f"/proc/{pid}")
        d.new_group()
        assert d.value(tasks.add, 1) == 1


def test_a_brutal_kill(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(tasks.check_loop, running)
        d.reached(running)
        d.stop(0.0, 0.0, pull=False)  # with the word it would be gone before
        (event,) = d.finish(ident)
        # The order alone is seen too: it may be quicker than the kill.
        assert isinstance(event, Died | Stopped)


@pytest.mark.parametrize(
    "begun", [b"", b"Current thread 0x", b"Current thread 0x00 (most recent call first):\n"]
)
def test_S19_a_kill_waits_for_the_dump_of_a_task_that_has_no_core_yet(
    start_method: str, stage: MakeStage, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """The signal takes effect only when the victim gets one: here as late as we like. It may lose
    it again in the middle of a line, or before the first frame."""
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(tasks.hold_the_gil, running)
        d.reached(running)
        (worker,) = d.engine._crew.workers.values()
        ask, asked = worker.ask_for_stack, []

        def begin() -> None:
            worker.stack += begun

        def wants_core(pid: int) -> bool:
            asked.append(pid)
            if len(asked) == 3:
                worker.stack.clear()
                ask()
            return children.wants_core(pid)

        monkeypatch.setattr(worker, "ask_for_stack", begin)
        monkeypatch.setattr(climber, "children", SimpleNamespace(wants_core=wants_core))
        monkeypatch.setattr(ladder, "DUMP_LATEST", PATIENCE)
        d.stop(0.0, 0.0)
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.ordered
        assert set(asked) == {event.payload.pid} and len(asked) >= 3
        assert "hold_the_gil" in (event.payload.stack or "")


def test_S20_S22_the_whole_tree_is_gone_before_the_end_is_told(
    start_method: str, stage: MakeStage
) -> None:
    running = stage("running")
    with driver(start_method) as d:
        for kill_after in (2.0, 0.0):
            ident = d.submit(tasks.with_children, running)
            pids = [int(p) for p in d.reached(running)[0].split()]
            assert len(pids) == 4
            d.stop(0.0, kill_after)
            (event,) = d.finish(ident)
            here = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
            # The worker itself may idle until it is told to leave, where it has unwound.
            assert here == [] or (isinstance(event, Stopped) and here == pids[:1])
            wait_gone(here)
            d.new_group()


def test_S22_a_child_that_gets_no_core_to_die_is_waited_for(
    start_method: str, stage: MakeStage
) -> None:
    """It is niced, and others keep its core busy: it dies seconds after it was killed."""
    running = stage("running")
    with driver(start_method) as d:
        core = min(os.sched_getaffinity(0))
        ident = d.submit(tasks.with_idle_child, running, core)
        with busy(core):
            child = int(d.reached(running)[0])
            time.sleep(1.0)  # its share of the core is used up
            d.stop(0.0, 2.0)
            d.finish(ident, 2 * PATIENCE)  # the longer, the more others want the core
            assert not os.path.exists(f"/proc/{child}")


def test_S22_a_template_that_gets_no_core_is_waited_for(
    start_method: str, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "EXIT_WITHIN", 0.01)
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(tasks.with_children, running)
        pids = [int(p) for p in d.reached(running)[0].split()]
        link = d.engine._crew._link
        assert link is not None
        asked: list[bool] = []
        monkeypatch.setattr(link, "starves", lambda: asked.append(True) or True)
        os.kill(link.template.pid, signal.SIGSTOP)
        try:
            d.stop(0.0, 0.0)
            d.until(lambda: len(asked) > 3)
            assert not d.over(ident)
        finally:
            os.kill(link.template.pid, signal.SIGCONT)
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.payload.exitcode == -signal.SIGKILL
        assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_S22_S51_the_successor_waits_for_the_old_ones_end(
    start_method: str, stage: MakeStage
) -> None:
    running, cleaning, go, told = (stage(n) for n in "running cleaning go told".split())
    with driver(start_method, initializer=tasks.initialise_and_tell, initargs=(told,)) as d:
        ident = d.submit(tasks.clean_up, running, cleaning, go)
        old = int(d.reached(running)[0])
        assert told.reached() == [str(old)]
        d.stop()
        crew = d.engine._crew
        d.until(lambda: crew.spares and crew.spares[0].state.value == "spare")
        d.until(lambda: crew.spares[0].pid)  # its template may tell of it after it has
        spare = crew.spares[0].pid
        d.reached(cleaning)
        d.new_group()
        after = d.submit(tasks.my_pid)
        d.engine.pump(0)
        assert told.reached() == [], "no initializer before the old one is dead"
        go.release()
        (event,) = d.finish(ident)
        assert isinstance(event, Stopped) and event.by is StoppedBy.INTERRUPT
        (done,) = d.finish(after)
        assert done.payload.values == [spare]  # type: ignore[attr-defined]
        assert told.reached() == [str(spare)]


def test_S52_an_error_of_the_clean_up_is_attached(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with driver(start_method) as d:
        ident = d.submit(tasks.clean_up_badly, running)
        d.reached(running)
        d.stop()
        (event,) = d.finish(ident)
        assert isinstance(event, Stopped) and event.by is StoppedBy.INTERRUPT
        error = event.payload.cleanup_error
        assert isinstance(error, OSError) and "clean_up_badly" in str(error.__cause__)


def test_S35_one_attempt_is_stopped_and_its_siblings_are_not(
    start_method: str, stage: MakeStage
) -> None:
    running, held, go = stage("running"), stage("held"), stage("go")
    with driver(start_method, 2) as d:
        victim, sibling = d.submit(tasks.nap, running), d.submit(tasks.hold, held, go)
        d.reached(running)
        d.reached(held)
        d.stop_attempt(victim)
        (event,) = d.finish(victim)
        assert isinstance(event, Stopped) and event.by is StoppedBy.INTERRUPT
        assert not d.over(sibling) and not d.group.token.is_set()
        go.release()
        assert isinstance(d.finish(sibling)[0], Succeeded)


def test_S12_what_waits_is_answered_without_a_start(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with driver(start_method) as d:
        first = d.submit(tasks.nap, running)
        d.reached(running)
        waiting = [d.submit(tasks.add, i) for i in range(5)]
        d.stop()
        for ident in waiting:
            assert d.finish(ident) == []
        d.finish(first)


def test_S12_nothing_starts_once_the_word_is_set(start_method: str) -> None:
    with driver(start_method) as d:
        d.group.token._pull(3)
        (event,) = d.finish(d.submit(tasks.add, 1))
        assert isinstance(event, Stopped)
        assert (event.by, event.started) == (StoppedBy.NEVER_STARTED, False)
        assert d.finish(d.submit_span(tasks.square, [1, 2, 3])) == []


def test_S9_a_second_stop_kills_one_that_is_cleaning_up(
    start_method: str, stage: MakeStage
) -> None:
    running, cleaning, go = stage("running"), stage("cleaning"), stage("go")
    with driver(start_method) as d:
        ident = d.submit(tasks.clean_up, running, cleaning, go)
        d.reached(running)
        d.stop(5.0, 60.0)
        d.reached(cleaning)
        d.stop(5.0, 60.0)  # once more the same: nothing happens
        d.engine.pump(0)
        assert not d.over(ident)
        d.stop(0.0, 0.0)
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.ordered
        assert crowded() if event.payload.stack is None else "File" in event.payload.stack


def test_reuse_interrupted(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with driver(start_method, reuse_interrupted=True) as d:
        ident = d.submit(tasks.nap, running)
        pid = int(d.reached(running)[0])
        d.stop()
        (event,) = d.finish(ident)
        assert isinstance(event, Stopped)
        d.new_group()
        assert d.value(tasks.my_pid) == pid


@pytest.mark.parametrize("left", [tasks.with_children, tasks.with_threads])
def test_S20_what_an_interrupted_task_has_started_goes_though_its_worker_might_stay(
    start_method: str, stage: MakeStage, left: Any
) -> None:
    running = stage("running")
    with driver(start_method, reuse_interrupted=True) as d:
        ident = d.submit(left, running)
        pids = [int(pid) for pid in d.reached(running)[0].split()]
        d.stop()
        (event,) = d.finish(ident)
        assert isinstance(event, Stopped) and event.by is StoppedBy.INTERRUPT
        wait_gone(pids)


def test_S15_the_signals_are_sent_inside_stop(stage: MakeStage) -> None:
    """No pump is needed for the first two rungs."""
    running = stage("running")
    with driver("forkserver") as d:
        d.submit(tasks.nap, running)
        d.reached(running)
        d.stop()
        eventually(lambda: d.engine.look()[0].phase == "idle")  # it has unwound by itself


def test_look_shows_what_runs(start_method: str, stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with driver(start_method) as d:
        ident = d.submit(tasks.hold, running, go)
        pid = int(d.reached(running)[0])
        (row,) = d.engine.look()
        assert (row.pid, row.attempt, row.index, row.phase) == (pid, ident, 0, "running")
        assert row.started_at is not None and not row.used_token and not row.stopping
        go.release()
        d.finish(ident)
        (row,) = d.engine.look()
        assert (row.attempt, row.started_at) == (None, None)


def test_a_task_that_writes_into_our_pipes_fails_alone(start_method: str) -> None:
    def vandal() -> None:
        for fd in range(300, 400):  # where a worker keeps its own
            try:
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    os.write(fd, b"\xff" * 100)
            except OSError:
                pass
        time.sleep(30)

    with driver(start_method) as d:
        event = d.run(vandal)
        assert isinstance(event, Died) and not event.ordered
        assert d.value(tasks.add, 1) == 1


def test_a_worker_that_garbles_its_pipe_behind_its_answer_gets_no_more(
    start_method: str, stage: MakeStage
) -> None:
    told = stage("told")

    def leave_a_vandal() -> int:
        def vandal() -> None:
            time.sleep(0.2)  # behind our answer; were it before, there would be nothing to see
            for fd in range(300, 400):
                try:
                    if stat.S_ISFIFO(os.fstat(fd).st_mode):
                        os.write(fd, b"\xff" * 100)
                except OSError:
                    pass
            told.reach()

        threading.Thread(target=vandal).start()
        return os.getpid()

    with driver(start_method) as d:
        d.value(tasks.add, 1)
        first, second = d.submit(leave_a_vandal), d.submit(tasks.my_pid)
        told.wait()  # nobody has read a word
        ends: list[Any] = [*d.finish(first), *d.finish(second)]
        assert [type(end) for end in ends] == [Succeeded, Succeeded]
        assert ends[0].payload.values != ends[1].payload.values


def test_S13_who_dies_between_two_items_behind_garbled_answers(start_method: str) -> None:
    """The row names the item that is over, and no start: it has run all the same."""

    def die_at_one(item: int) -> str:
        if item == 1:
            cells = state.current.cells  # as the worker itself does right behind us
            cells[_row.PHASE], cells[_row.STARTED_NS] = _row.SENDING, 0
            for fd in range(300, 400):
                try:
                    if stat.S_ISFIFO(os.fstat(fd).st_mode):
                        os.write(fd, b"\xff" * 100)
                except OSError:
                    pass
            os.kill(os.getpid(), signal.SIGKILL)
        return str(item)

    with driver(start_method) as d:
        *_, death = d.finish(d.submit_span(die_at_one, [0, 1, 2]))
        assert isinstance(death, Died) and (death.index, death.started) == (1, None)


# Opening and closing ------------------------------------------------------------------------------


def test_making_one_has_no_effect_and_open_starts_no_worker(start_method: str) -> None:
    with driver(start_method, 4) as d:
        assert d.pids() == []
    with driver(start_method, 3, prestart=True) as d:
        d.until(lambda: len(d.pids()) == 3)
        assert d.caps.slots >= 3 and d.caps.can_kill and d.caps.can_interrupt


def test_the_first_worker_boots_before_the_many(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at once would share the CPUs until the last is there."""
    monkeypatch.setattr(crew, "AT_ONCE", 2)
    with driver(start_method, 6, prestart=True) as d:
        assert len(d.engine._crew.workers) == 2  # nobody has pumped yet
        assert d.caps.preparing() is False  # there is no initializer
        d.until(lambda: len(d.pids()) == 6)
    monkeypatch.setattr(crew, "BOOT_ALONE", 0.05)
    with driver(start_method, 6) as d:
        link = d.engine._crew._link
        assert link is not None
        os.kill(link.template.pid, signal.SIGSTOP)
        try:
            attempts = [d.submit(tasks.add, n) for n in range(6)]
            assert len(d.engine._crew.workers) == 2
            d.until(lambda: len(d.engine._crew.workers) == 6)  # who hangs holds up nobody
        finally:
            os.kill(link.template.pid, signal.SIGCONT)
        assert all(isinstance(d.finish(a)[0], Succeeded) for a in attempts)


def test_the_first_task_has_a_head_start_before_the_many_boot(
    start_method: str, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To start them takes the CPUs for much longer than most first tasks take."""
    held, go = stage("held"), stage("go")
    monkeypatch.setattr(crew, "AT_ONCE", 2)
    monkeypatch.setattr(crew, "HEAD_START", 10 * PATIENCE)
    with driver(start_method, 6, prestart=True) as d:
        ident = d.submit(tasks.hold, held, go)
        d.reached(held)
        d.until(lambda: len(d.engine._idle) == 1)  # the second has booted, too
        assert len(d.engine._crew.workers) == 2
        go.release()
        d.finish(ident)
        d.until(lambda: len(d.pids()) == 6)
    monkeypatch.setattr(crew, "HEAD_START", 0.05)
    held, go = stage("held again"), stage("go again")
    with driver(start_method, 6, prestart=True) as d:
        ident = d.submit(tasks.hold, held, go)
        d.reached(held)
        d.until(lambda: len(d.pids()) == 6)  # who takes long holds up nobody
        go.release()
        d.finish(ident)


def test_who_pumps_hears_of_a_timer_that_another_thread_has_set(
    start_method: str, stage: MakeStage
) -> None:
    """A span was sent, and nothing comes of it: it is looked at when it takes long."""
    held, go = stage("held"), stage("go")
    with driver(start_method) as d:
        d.value(tasks.add, 1)
        pumping = threading.Thread(target=d.engine.pump, args=(2 * PATIENCE,))
        pumping.start()
        eventually(lambda: d.engine._waiting)
        ident = d.submit_span(tasks.hold, [(held, go), (held, go)], star=True)
        pumping.join(PATIENCE)
        assert not pumping.is_alive()
        d.reached(held)
        go.release()
        go.release()
        d.finish(ident)


def test_workers_are_started_on_demand(start_method: str) -> None:
    with driver(start_method, 4) as d:
        for _ in range(5):
            d.value(tasks.add, 1)
        assert len(d.engine._crew.workers) == 1  # its birth may be told after what it answers


def test_workers_that_were_dismissed_are_replaced_when_work_comes(start_method: str) -> None:
    with driver(start_method, 2) as d:
        before = d.value(os.getpid)
        with d.config.lock:
            d.caps.dismiss()
        wait_gone([before])
        d.until(lambda: not d.engine.look())
        d.engine.pump(2 * crew.REPLACE_AFTER)
        assert not d.engine.look()  # nobody comes for nothing
        assert d.value(os.getpid) != before


def test_the_first_worker_under_spawn_differs_in_nothing_from_the_others() -> None:
    """It starts beside the template, and what a shell and the program leave to it is undone."""
    inheritable = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    template.close_idle()
    try:
        with driver("spawn") as d:
            pid, first = d.value(os.getpid), d.value(tasks.surroundings)
            link: Any = d.engine._crew._link
            assert d.value(os.getppid) == link.template.pid
            os.kill(pid, signal.SIGKILL)
            d.until(lambda: not any(row.pid == pid for row in d.engine.look()))
            assert d.value(tasks.surroundings) == first
    finally:
        os.close(inheritable)


@pytest.mark.parametrize("why", ["no shell", "ignored", "descriptors"])
def test_under_spawn_the_first_worker_may_also_start_behind_the_template(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template.close_idle()
    if why == "no shell":
        monkeypatch.setattr(template_process, "_SHELL", "/nowhere/sh")
    before = signal.getsignal(signal.SIGQUIT)
    if why == "ignored":
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with driver("spawn") as d:
            if why == "descriptors":
                highest = max(map(int, os.listdir("/proc/self/fd")))
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 12, limit[1]))
            ignored = d.value(signal.getsignal, signal.SIGQUIT)
            assert (ignored == signal.SIG_IGN) == (why == "ignored")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        signal.signal(signal.SIGQUIT, before)
        template.close_idle()


def test_an_open_that_fails_leaves_nothing() -> None:
    before = descriptors.count()
    with pytest.raises(SerializationError):
        Driver("forkserver", initializer=tasks.initialise, initargs=(threading.Lock(),))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for method in ("forkserver", "spawn", "fork"):
            with pytest.raises(OSError):
                Driver(method)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors.count() == before


def test_close_tells_what_became_of_what_ran(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    d = Driver(start_method, 2)
    ids = [d.submit(tasks.swallow, running), d.submit(tasks.swallow, running)]
    waits = d.submit(tasks.add, 1)
    pids = d.reached(running, 2)
    assert d.close() == []
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")
    for ident in ids:
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and event.ordered
    assert d.of(waits) == [AttemptEnded(waits)]
    assert d.close() == []


def test_a_row_is_found_before_the_birth_is_told(start_method: str) -> None:
    """Or a failure would count as asked to stop, by the very cord that it has pulled (S3)."""
    with driver(start_method, prestart=True) as d:  # nobody pumps
        (worker,) = d.engine._crew.workers.values()
        assert worker.pid is None
        assert d.engine.at(worker.row_number) is None
        worker.attempt = Attempt(7, d.group, d.pack(tasks.add, 1), 2, 5, True)
        assert d.engine.at(worker.row_number) == (7, 2)
        assert d.engine.at(worker.row_number + 1) is None
        worker.attempt = None


def test_S11_a_death_that_nobody_asked_for_counts_as_a_ring(start_method: str) -> None:
    """A thread that a task has left may have pulled a word, and have died before it rang."""
    with driver(start_method) as d:
        pid, rang = d.value(tasks.my_pid), d.rang
        os.kill(pid, signal.SIGKILL)
        d.until(lambda: pid not in d.pids())
        assert d.rang > rang
    with driver(start_method, max_tasks_per_worker=2) as d:
        d.value(tasks.my_pid)  # an earlier ring, of this process's one bell, has been heard by now
        rang, pid = d.rang, d.value(tasks.my_pid)
        d.until(lambda: pid not in d.pids())
        assert d.rang == rang


def test_who_looks_sees_what_runs_before_the_birth_is_told(
    start_method: str, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a future would say that it does not run, while its function does."""
    held, go = stage("held"), stage("go")
    with driver(start_method) as d:
        births: list[Any] = []
        monkeypatch.setattr(d.engine._crew, "_born", lambda *birth: births.append(birth))
        ident = d.submit(tasks.hold, held, go)
        d.reached(held)
        (worker,) = d.engine._crew.workers.values()
        assert worker.pid is None
        (row,) = d.engine.look()
        assert (row.attempt, row.phase, row.pid) == (ident, "running", worker.row.pid)
        d.until(lambda: births)
        monkeypatch.undo()
        with d.config.lock:
            d.engine._crew._born(*births[0])
        assert worker.pid == row.pid
        go.release()
        d.finish(ident)


def test_a_worker_that_hangs_up_before_its_birth_is_told_is_killed_all_the_same(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_all() -> None:
        os.closerange(300, 400)  # where a worker keeps its own
        time.sleep(60)

    with driver(start_method) as d:
        births: list[Any] = []
        monkeypatch.setattr(d.engine._crew, "_born", lambda *birth: births.append(birth))
        ident = d.submit(close_all)
        (worker,) = d.engine._crew.workers.values()
        d.until(lambda: worker.reader.closed and births)
        monkeypatch.undo()
        with d.config.lock:
            d.engine._crew._born(*births[0])
        (event,) = d.finish(ident)
        assert isinstance(event, Died) and not event.ordered


def test_close_while_workers_boot(start_method: str) -> None:
    for _ in range(3):
        d = Driver(start_method, 8, prestart=True)
        assert d.close() == []


def test_S21_close_is_bounded_and_names_what_remains() -> None:
    """A template that is stopped can reap nobody."""
    d = Driver("forkserver")
    pid = d.value(tasks.my_pid)
    link = d.engine._crew._link
    assert link is not None
    os.kill(link.template.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        left = d.close(0.5)
        assert time.monotonic() - began < 5.0
        assert left in ([pid], [])
    finally:
        os.kill(link.template.pid, signal.SIGCONT)
    wait_gone([pid])


def test_wake_ends_a_pump_and_is_harmless_after_close() -> None:
    d = Driver("forkserver")
    timer = threading.Timer(0.05, d.caps.wake)
    timer.start()
    d.engine.pump(PATIENCE)
    timer.join()
    d.close()
    d.caps.wake()


def test_S20_when_the_parent_is_killed_nothing_stays(start_method: str) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from tests.engine import tasks\n"
        "from tests.engine.driver import Driver\n"
        "from tests.support import eventually\n"
        f"d = Driver({start_method!r}, 2, prestart=True)\n"
        # Its birth may be told after a worker is ready; nobody pumps further down.
        "d.until(lambda: len(d.engine._idle) == len(d.engine.look()) == 2)\n"
        "a = d.submit(time.sleep, 60)\n"
        "b = d.submit(sum, range(10**11))\n"
        "eventually(lambda: sum(r.phase == 'running' for r in d.engine.look()) == 2)\n"
        "print(*d.pids(), d.engine._crew._link.template.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run_python(["-c", code])
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    wait_gone(pids, allowed(1.0))


def test_a_forked_child_keeps_no_lifeline(start_method: str, stage: MakeStage) -> None:
    """Else our workers would outlive us in its company."""
    running = stage("running")
    with driver(start_method) as d:
        d.submit(tasks.nap, running)
        d.reached(running)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(write, b"%d" % descriptors.count())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read, 9) == b"0"
        os.close(read)
        os.close(write)
        assert d.pids()
        d.stop()


def test_open_fork_with_hooks_and_main_by_name() -> None:
    """A class of `__main__` that was inherited travels by name, so it stays itself."""
    code = (
        "from tests.engine.driver import driver\n"
        "count = 0\n"
        "def bump():\n"
        "    global count\n"
        "    count += 1\n"
        "    return count\n"
        "with driver('fork') as d:\n"
        "    print([d.value(bump) for _ in range(3)])\n"
    )
    done = run_python(["-c", code])
    assert done.stdout.strip() == "[1, 2, 3]", done.stderr


def test_an_answer_that_was_found_in_the_tray_may_still_be_the_last() -> None:
    """All of its items were told by a look at the tray (S45), as a span took long; that its attempt
    is over, nothing but the answer tells."""
    anything: Any = None
    ledger = Ledger(anything, anything, Lone(), [], free=anything, max_tasks=None)
    group = GroupRef(1, Token())
    for flags, over in ((0, False), (_wire.LAST, True)):
        worker: Any = SimpleNamespace(
            attempt=Attempt(7, group, None, 0, 5, True),
            next_index=3,  # as the tray says
            items_done=0,
            killed=True,  # or else it would get the next attempt
            cancel_timers=lambda: None,
        )
        ledger._take(worker, (_wire.VALUES, flags, 7, (0, 0.0, 1.0, 3), b""))
        assert (worker.attempt is None) is over
    assert [type(event).__name__ for event in ledger.out] == ["AttemptEnded"]


def test_S37_a_task_is_told_of_the_ladder_of_its_own_group(start_method: str) -> None:
    """By the row of its worker, which has run tasks of others."""
    with driver(start_method) as d:
        ladders = [(5.0, 2.0), (3.0, 4.0), (5.0, 2.0), (5.0, 2.0), (0.0, 0.0)]
        for number, ladder in enumerate(ladders):
            d.group = GroupRef(number, Token(), *ladder)
            assert d.value(tasks.ladder_told) == ladder
