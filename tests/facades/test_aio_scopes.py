"""`andon.aio.TaskGroup`: scopes that are entered and left in uncommon ways.

In an async generator that is dropped, inside a scope that is gone, in another task than the one
that has entered it, for longer than a day; and what is left behind by calls that come to nothing.

The rules: S4, S5, S14, S28, S32, S33, S37, S46, S47.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import ref

import pytest

import andon
import andon.aio
from tests.facades.tasks import fail, hold, sleep_long, token_loop
from tests.facades.test_aio import forever, here, reached, run
from tests.support import PATIENCE, Stage

MakeStage = Callable[..., Stage]
Group = andon.aio.TaskGroup


async def turns(count: int = 20) -> None:
    """Of the loop: whatever was to come, has come."""
    for _ in range(count):
        await asyncio.sleep(0.001)


async def closed(tg: andon.aio.TaskGroup) -> None:
    while tg._scope is None or not tg._scope.group.closed:
        await asyncio.sleep(0.001)


# In an async generator --------------------------------------------------------------------------


@pytest.mark.parametrize("dropped", [False, True])
def test_a_generator_that_is_closed_stops_its_scope_and_not_its_consumer(
    dropped: bool, stage: MakeStage
) -> None:
    running = stage("running")
    kept: list[andon.aio.TaskGroup] = []
    siblings: list[asyncio.Task[None]] = []

    async def results() -> AsyncIterator[int]:
        async with Group(pool=pool) as tg:
            kept.append(tg)
            siblings.append(tg.create_task(forever()))
            tg.submit(token_loop, running)
            await reached(running)
            while True:
                yield await tg.run(abs, -1)

    async def use() -> None:
        generator = results()
        async for number in generator:
            assert number == 1
            break
        if not dropped:
            await generator.aclose()  # type: ignore[attr-defined]

    async def main() -> None:
        await use()
        gc.collect()
        while not kept[0].reason:
            await asyncio.sleep(0)
        await closed(kept[0])
        await turns()
        assert here().cancelling() == 0 and siblings[0].cancelled()
        assert kept[0].reason.kind == "cancel" and kept[0].reason.message == "its body was closed"
        assert [o.stopped_by for o in kept[0].outcomes] == ["token", "returned"]

    with andon.Pool(2) as pool:
        run(main())


def token_held(running: Stage, go: Stage) -> None:
    """Stops, by its token, when the test lets it."""
    andon.check()
    running.reach()
    go.hold()
    andon.check()


def test_a_sibling_of_a_closed_generator_is_kept_and_its_error_told(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    told: list[dict[str, Any]] = []
    groups: list[Any] = []
    events: list[ref[asyncio.Event]] = []

    async def cleans_up(future: andon.aio.Future[None]) -> None:
        try:
            await forever()
        finally:
            with pytest.raises(andon.TaskCancelledError):
                await future
            event = asyncio.Event()  # nobody but us leads to it, and nobody else to us
            events.append(ref(event))
            await event.wait()
            raise OSError("late")

    async def results() -> AsyncIterator[int]:
        async with Group(workers=1, grace=60) as tg:
            tg.create_task(cleans_up(tg.submit(token_held, running, go)))
            await reached(running)
            groups.append(tg._entered().group)
            yield 1

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        generator = results()
        assert await anext(generator) == 1
        await generator.aclose()  # type: ignore[attr-defined]
        del generator
        await turns()
        gc.collect()
        go.release()
        while not (events and groups[0].closed):
            await asyncio.sleep(0.001)
        await turns()
        gc.collect()
        assert here().cancelling() == 0 and not told
        event = events[0]()
        assert event is not None
        event.set()
        await turns()

    run(main())
    assert [repr(context["exception"]) for context in told] == ["OSError('late')"]
    assert "whose body was closed" in told[0]["message"] and "task" in told[0]


# Inside a scope that is gone --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "error", "failure", "deadline", "parent"])
def test_S37_a_scope_whose_outer_one_is_stopped_and_left_at_once(how: str) -> None:
    async def inner(entered: asyncio.Event) -> None:
        async with Group(pool=pool):
            entered.set()
            await forever()

    async def outer(inners: list[asyncio.Task[None]]) -> None:
        async with Group(pool=pool, deadline=0.2 if how == "deadline" else None) as tg:
            entered = asyncio.Event()
            inners.append(asyncio.create_task(inner(entered)))  # nobody's sibling, in our context
            await entered.wait()
            if how == "cancel":
                tg.cancel("enough")
            elif how == "error":
                raise KeyError("body")
            elif how == "failure":
                await tg.run(fail)
            elif how == "parent":
                here().cancel()
                await forever()
            else:
                await forever()

    async def main() -> None:
        inners: list[asyncio.Task[None]] = []
        task = asyncio.create_task(outer(inners))
        await asyncio.wait([task])
        assert how == "cancel" or task.cancelled() or task.exception() is not None
        assert await asyncio.wait(inners, timeout=PATIENCE) == (set(inners), set())
        assert inners[0].cancelled()

    with andon.Pool(2) as pool:
        run(main())


# For long, and in several tasks -----------------------------------------------------------------


def test_a_scope_that_is_open_for_longer_than_its_timer(
    stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go = stage("running"), stage("go")
    monkeypatch.setattr("andon.aio.kept._LONG", 0.01)

    async def main() -> None:
        async with Group(workers=1) as tg:
            held = tg.submit(hold, running, go)
            kept = ref(tg._kept())
            await reached(running)
            await asyncio.sleep(0.05)
            gc.collect()
            asyncio.get_running_loop().call_later(0.05, go.release)  # when the body is left
        assert held.result() == "released"
        await asyncio.sleep(0.05)
        gc.collect()
        assert kept() is None  # nothing rings on

    run(main())


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("how", ["plain", "failure", "cancel", "outside"])
def test_entered_in_one_task_and_left_in_another(gone: bool, how: str, stage: MakeStage) -> None:
    """As fixtures are; `gone`: the first one is over by then."""
    running, go = stage("running"), stage("go")
    over = asyncio.Event()

    async def fixture() -> AsyncIterator[andon.aio.TaskGroup]:
        async with Group(pool=pool) as tg:
            yield tg

    async def enter(generator: AsyncIterator[Any], entered: asyncio.Future[Any]) -> None:
        entered.set_result(await anext(generator))
        if not gone:
            await over.wait()

    async def use(tg: andon.aio.TaskGroup) -> None:
        assert await tg.run(abs, -3) == 3
        if how == "failure":
            with pytest.raises(ValueError, match="used"):
                await tg.run(fail, "used")
        elif how == "cancel":
            tg.cancel("enough")
        elif how == "outside":
            tg.submit(hold, running, go)
        await turns()  # who uses it is not its body

    async def main() -> None:
        generator = fixture()
        entered = asyncio.get_running_loop().create_future()
        first = asyncio.create_task(enter(generator, entered))
        tg = await entered
        if gone:
            await first
            first = asyncio.create_task(forever())
            gc.collect()
        await asyncio.create_task(use(tg))
        leaving = asyncio.create_task(anext(generator))  # type: ignore[arg-type]
        if how == "outside":
            await reached(running)
            leaving.cancel()
        await asyncio.wait([leaving])
        if how == "outside":
            assert leaving.cancelled() and leaving.cancelling() == 1
        elif how == "failure":
            error = leaving.exception()
            assert isinstance(error, ExceptionGroup)
            assert [str(e) for e in error.exceptions] == ["used"]
        else:
            assert isinstance(leaving.exception(), StopAsyncIteration)
        kind = {"plain": None, "failure": "failure", "cancel": "cancel", "outside": "parent"}[how]
        assert (tg.reason and tg.reason.kind) == kind
        assert not first.cancelled() or not gone
        first.cancel()

    with andon.Pool(1) as pool:
        run(main())


# Siblings that are made late --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ends", "fails", "cancelled"])
def test_S47_siblings_that_callbacks_make_while_the_body_leaves(
    how: str, stage: MakeStage
) -> None:
    first, rest, running = stage("first"), stage("rest"), stage("running")
    ended: list[str] = []
    leaving: list[asyncio.Task[None]] = []

    async def sibling(tg: andon.aio.TaskGroup) -> None:
        assert await asyncio.to_thread(running.wait, 2)
        rest.release()  # the last process task ends
        await closed(tg)
        await turns()
        with pytest.raises(andon.GroupClosedError):
            tg.create_task(forever())
        ended.append("sibling")
        if how == "fails":
            raise OSError("late")
        if how == "cancelled":
            leaving[0].cancel()
            try:
                await forever()
            finally:
                ended.append("cancelled")

    async def scope() -> None:
        async with Group(pool=pool) as tg:
            future = tg.submit(hold, running, first)
            tg.submit(hold, running, rest)
            future.add_done_callback(lambda _: tg.create_task(sibling(tg)))
            asyncio.get_running_loop().call_later(0.05, first.release)  # when the body is left
        ended.append("scope")

    async def main() -> None:
        task = asyncio.create_task(scope())
        leaving.append(task)
        await asyncio.wait([task])
        assert task.cancelling() == (how == "cancelled")
        if how == "fails":
            error = task.exception()
            assert isinstance(error, ExceptionGroup)
            assert [repr(e) for e in error.exceptions] == ["OSError('late')"]
        else:
            assert task.cancelled() == (how == "cancelled")
        last = {"ends": ["scope"], "fails": [], "cancelled": ["cancelled"]}[how]
        assert ended == ["sibling", *last]

    with andon.Pool(2) as pool:
        run(main())


# What is kept, and what is not ------------------------------------------------------------------


def test_who_waits_for_a_map_is_kept(stage: MakeStage) -> None:
    running, go, other = stage("running"), stage("go"), stage("other")
    got: list[str] = []

    async def request() -> None:
        async with Group(pool=pool) as tg:
            results = tg.map(hold, [running], [go])
            await reached(running)
            tg.create_task(side(tg))
            got.extend([each async for each in results])

    async def side(tg: andon.aio.TaskGroup) -> None:
        await asyncio.sleep(0.01)  # the body waits
        tg.map(hold, [running], [other])  # the first map has nothing more to read
        await reached(running)
        gc.collect()
        go.release()
        other.release()

    async def main() -> None:
        task = ref(asyncio.create_task(request()))  # nobody holds it but what it waits for
        while (alive := task()) is not None and not alive.done():
            del alive
            await asyncio.sleep(0.01)

    with andon.Pool(2) as pool:
        run(main())
    assert got == ["released"]


def test_calls_that_come_to_nothing_leave_nothing(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")

    async def main() -> None:
        async with Group(workers=1) as tg:
            for _ in range(3):
                with pytest.raises(andon.SerializationError):
                    tg.submit(abs, threading.Lock())  # type: ignore[arg-type]
                with pytest.raises(andon.SerializationError):
                    await tg.run(abs, threading.Lock())  # type: ignore[arg-type]
            assert not tg._kept().futures
            results: Any = tg.map(hold, [running], [go])
            await reached(running)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await anext(results)
            assert not results._waiters and not tg._kept().waiters
            go.release()
            assert await anext(results) == "released"

    run(main())


# Maps -------------------------------------------------------------------------------------------


def sleep_at_5(x: int) -> int:
    if x == 5:
        sleep_long()
    return x


class Countdown:
    """As little as `async for` asks for: its iterator is no iterable."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __aiter__(self) -> Downwards:
        return Downwards(self.start)


class Downwards:
    def __init__(self, start: int) -> None:
        self.left = start

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


def test_S46_an_input_whose_iterator_is_no_iterable() -> None:
    async def main() -> None:
        assert [x async for x in Countdown(3)] == [2, 1, 0]  # type: ignore[attr-defined]
        async with Group(workers=1) as tg:
            one: Any = Countdown(3)
            assert [x async for x in tg.map(abs, one)] == [2, 1, 0]
            assert [x async for x in tg.map(max, one, [0, 5, 0, 7])] == [2, 5, 0]
            assert [x async for x in tg.map(max, iter([0, 5]), one)] == [2, 5]

    run(main())


@pytest.mark.parametrize("ordered", [False, True])
def test_S46_who_iterates_on_after_a_stop_gets_all_outcomes(ordered: bool) -> None:
    async def main() -> None:
        got: list[andon.Outcome] = []
        cancelled = 0
        async with Group(workers=2) as tg:
            outcomes = tg.imap(sleep_at_5, range(12), ordered=ordered, return_outcomes=True)
            while True:
                try:
                    async for outcome in outcomes:
                        got.append(outcome)
                        if len(got) == 3:
                            tg.cancel("enough")
                except asyncio.CancelledError:
                    cancelled += 1
                except andon.Cancelled:
                    break
        assert cancelled <= 1 and tg.reason.kind == "cancel"  # none where all was told before
        assert sorted(got, key=lambda each: each.index) == list(tg.outcomes)
        assert not ordered or got == list(tg.outcomes)
        assert {each.state for each in got} == {"succeeded", "cancelled"}

    run(main())
