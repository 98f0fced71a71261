"""`andon.aio.TaskGroup`: process tasks and asyncio tasks that share one fate.

The rules: S5, S12 to S14, S19, S23, S28 to S31, S33 to S35, S37, S43, S45 to S47, S50.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest

import andon
import andon.aio
from tests.facades.tasks import (
    fail,
    fail_at,
    fail_when,
    hold,
    pid,
    sleep_long,
    square,
    token_loop,
)
from tests.support import PATIENCE, Stage, alive, eventually, run_python, wait_gone

MakeStage = Callable[..., Stage]
Group = andon.aio.TaskGroup


def run(main: Coroutine[Any, Any, Any], *, debug: bool = True) -> Any:
    """Bounded; in debug mode, which checks that the loop is touched in its own thread only."""

    async def bounded() -> Any:
        async with asyncio.timeout(3 * PATIENCE):
            return await main

    return asyncio.run(bounded(), debug=debug)


def here() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def reached(stage: Stage) -> str:
    return await asyncio.to_thread(stage.word)


async def forever() -> None:
    await asyncio.Event().wait()


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


# The happy way ----------------------------------------------------------------------------------


def test_results_and_verdict(start_method: str) -> None:
    async def numbers() -> AsyncIterator[int]:
        for i in range(20):
            await asyncio.sleep(0)
            yield i

    async def main() -> andon.aio.TaskGroup:
        async with Group(workers=2, start_method=start_method) as tg:
            assert await tg.run(square, 3) == 9
            future = tg.submit(pid)
            assert await future != os.getpid() and future.done()
            sibling = tg.create_task(tg.run(square, 4))
            squares = [x * x for x in range(20)]
            assert [r async for r in tg.map(square, range(20))] == squares
            assert [r async for r in tg.map(square, numbers())] == squares
            assert sorted([r async for r in tg.imap(square, iter(range(20)))]) == squares
            assert [r async for r in tg.map(pow, numbers(), iter([2, 2]))] == [0, 1]
            tg.map(square, numbers())  # nobody iterates: it runs all the same
        assert await sibling == 16 and here().cancelling() == 0
        return tg

    tg = run(main())
    assert (tg.verdict, tg.reason) == ("ok", None)
    assert tg.stats.succeeded == tg.stats.submitted == 3 + 60 + 2 + 20
    assert [o.index for o in tg.outcomes] == list(range(85))


def test_on_a_pool_without_a_thread_of_its_own() -> None:
    seen: set[str] = set()

    async def main() -> None:
        async with Group(pool=pool) as tg:
            for i in range(20):
                assert await tg.run(square, i) == i * i
                seen.update(t.name for t in threading.enumerate())
        with pytest.raises(ValueError, match="give workers to the pool"):
            Group(pool=pool, workers=2)

    with andon.Pool(1) as pool:
        run(main())
    assert not [name for name in seen if "aio" in name or "packer" in name]


@pytest.mark.parametrize("policy", [andon.fail_fast, andon.collect_all])
def test_S5_a_body_that_holds_up_the_loop_finds_its_futures_done(policy: Any) -> None:
    """What the pool has told meanwhile is told in the loop before the group is left."""

    async def main() -> None:
        for fn in (square, fail):
            futures: list[andon.aio.Future[Any]] = []
            with suppress(ExceptionGroup):
                async with andon.aio.TaskGroup(pool=pool, policy=policy) as tg:
                    futures.append(tg.submit(fn, 1))
                    group = tg._entered().group
                    eventually(lambda: group.stats.done == 1, what="done")  # noqa: B023
            assert futures[0].done()
            assert (futures[0].exception() is None) == (fn is square)

    with andon.Pool(1) as pool:
        run(main())


def test_import_andon_leaves_asyncio_alone() -> None:
    source = (
        "import sys, andon; assert 'asyncio' not in sys.modules; andon.TaskGroup, andon.Pool\n"
        "assert 'asyncio' not in sys.modules; print(andon.aio.TaskGroup(workers=1))"
    )
    done = run_python(["-c", source])
    assert (done.stdout, done.stderr) == ("<andon.aio.TaskGroup not entered>\n", "")


def test_several_loops_in_several_threads() -> None:
    async def main(base: int) -> int:
        async with Group(pool=pool) as tg:
            return sum(await asyncio.gather(*[tg.run(square, base + i) for i in range(50)]))

    sums: dict[int, int] = {}

    def in_thread(base: int) -> None:
        sums[base] = run(main(base))

    with andon.Pool(2) as pool:
        threads = [threading.Thread(target=in_thread, args=(base,)) for base in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * PATIENCE)
    assert sums == {base: sum((base + i) ** 2 for i in range(50)) for base in (0, 100, 200)}


# One fate ---------------------------------------------------------------------------------------


def test_S23_S43_a_failing_process_task_cancels_siblings_and_body(
    start_method: str, stage: MakeStage
) -> None:
    running, go = stage("running"), stage("go")
    ended: list[str] = []

    async def sibling() -> None:
        try:
            await forever()
        finally:
            ended.append("sibling")

    async def main() -> None:
        try:
            async with Group(workers=2, start_method=start_method) as tg:
                tg.create_task(sibling())
                tg.submit(token_loop, running)
                tg.submit(fail_when, go, "the cause")
                await reached(running)
                go.release()
                try:
                    await forever()
                finally:
                    ended.append("body")
        except ExceptionGroup as error:
            assert [str(e) for e in error.exceptions] == ["the cause"]
            assert error.andon_group is tg  # type: ignore[attr-defined]  # S45
            assert "in fail_when" in str(error.exceptions[0].__cause__)
        assert sorted(ended) == ["body", "sibling"] and here().cancelling() == 0
        assert tg.verdict == "failed" and tg.reason.kind == "failure"
        assert [o.stopped_by for o in tg.outcomes] == ["token", "returned"]
        await asyncio.sleep(0)  # no cancellation is left over

    run(main())


def test_who_awaits_the_failing_task_is_told_its_error() -> None:
    told: list[str] = []

    async def asks(tg: andon.aio.TaskGroup) -> None:
        try:
            await tg.run(fail, "told")
        except ValueError as error:
            told.append(str(error))
            raise

    async def main(as_sibling: bool) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1) as tg:
                if as_sibling:
                    tg.create_task(asks(tg))
                    await forever()
                else:
                    await asks(tg)
        assert [str(e) for e in caught.value.exceptions] == ["told"]  # once (S31)
        assert tg.reason.kind == "failure" and here().cancelling() == 0

    run(main(False))
    run(main(True))
    assert told == ["told", "told"]


def test_a_failing_sibling_stops_the_process_tasks(stage: MakeStage) -> None:
    running = stage("running")

    async def breaks() -> None:
        await reached(running)
        raise KeyError("sibling")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1) as tg:
                tg.create_task(breaks())
                tg.create_task(forever())
                tg.submit(sleep_long, running)
        assert [type(e) for e in caught.value.exceptions] == [KeyError]
        assert tg.reason.kind == "body" and tg.outcomes[0].stopped_by == "interrupt"
        assert here().cancelling() == 0

    run(main())


def test_S31_errors_of_body_and_siblings(stage: MakeStage) -> None:
    async def at_the_end() -> None:
        try:
            await forever()
        finally:
            raise OSError("late")

    async def main(error: type[BaseException]) -> BaseException:
        try:
            async with Group(workers=1) as tg:
                tg.create_task(at_the_end())
                await tg.run(square, 1)
                raise error("body")
        except BaseException as caught:
            assert tg.verdict in ("failed", "cancelled")
            return caught
        raise AssertionError

    caught = run(main(KeyError))
    assert [type(e) for e in caught.exceptions] == [KeyError, OSError]  # S43: in that order
    with pytest.raises(SystemExit):  # bare (S31)

        async def exits() -> None:
            async with Group(workers=1) as tg:
                await tg.run(square, 1)
                raise SystemExit(3)

        run(exits())


def test_S14_operations_of_a_stopping_group(stage: MakeStage) -> None:
    async def main() -> None:
        async with Group(workers=1) as tg:
            waiting = tg.submit(sleep_long)
            tg.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await forever()
            with pytest.raises(andon.Cancelled):
                tg.submit(square, 1)
            never = forever()
            with pytest.raises(andon.Cancelled):
                tg.create_task(never)  # and closes it: no warning comes
            with pytest.raises(andon.Cancelled):
                tg.map(square, [1])
            await tg.run(square, 1)  # absorbed
        assert tg.reason.kind == "cancel" and tg.reason.message == "enough"
        assert waiting.cancelled() and here().cancelling() == 0
        with pytest.raises(andon.TaskCancelledError):
            await waiting
        with pytest.raises(andon.GroupClosedError):
            tg.submit(square, 1)

    run(main())


def test_S50_an_event_and_a_deadline_stop_it() -> None:
    async def main() -> None:
        stop = andon.Event()
        async with Group(workers=1, token=stop) as tg:
            tg.create_task(forever())
            stop.set()
            await forever()
        assert tg.reason.kind == "cancel"
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1, deadline=0.05) as tg:
                await tg.run(sleep_long)
        assert [type(e) for e in caught.value.exceptions] == [andon.GroupTimeoutError]
        assert here().cancelling() == 0

    run(main())


def test_S29_S28_errors_of_one_task() -> None:
    async def main() -> None:
        lock = threading.Lock()
        async with Group(workers=1, policy=andon.collect_all()) as tg:
            with pytest.raises(andon.TaskTimeoutError):
                await tg.run(sleep_long, timeout=0.05)
            with pytest.raises(andon.SerializationError, match="lock"):
                await tg.run(square, lock)
            with pytest.raises(andon.SerializationError, match="lock"):
                tg.submit(square, lock)
            with pytest.raises(andon.WorkerDiedError):
                await tg.run(os._exit, 3)
            with pytest.raises(TypeError, match="coroutine function"):
                await tg.run(forever)
            assert await tg.run(square, 5) == 25
        assert tg.verdict == "ok" and tg.stats.failed == 2

    run(main())


def test_a_draining_group_lets_siblings_finish(stage: MakeStage) -> None:
    go, running, sibling_go = stage("go"), stage("running"), asyncio.Event()
    ended: list[str] = []

    async def sibling() -> None:
        await sibling_go.wait()
        ended.append("sibling")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=2, policy=andon.fail_fast("soon")) as tg:
                tg.create_task(sibling())
                holds = tg.submit(hold, running, go)
                await reached(running)
                with pytest.raises(ValueError):
                    await tg.submit(fail, "drains")
                go.release()
                assert await holds == "released"  # what runs, ends
                sibling_go.set()
        assert [str(e) for e in caught.value.exceptions] == ["drains"]

    run(main())
    assert ended == ["sibling"]


# Cancelled from outside -------------------------------------------------------------------------


def test_S5_S35_cancelling_the_await_stops_the_task(start_method: str, stage: MakeStage) -> None:
    running = stage("running")

    async def main() -> None:
        async with Group(workers=1, start_method=start_method) as tg:
            for submitted in (False, True):
                if submitted:
                    task = asyncio.ensure_future(tg.submit(sleep_long, running))
                else:
                    task = asyncio.create_task(tg.run(sleep_long, running))
                worker = int(await reached(running))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                wait_gone([worker])  # it was interrupted
            assert await tg.run(square, 2) == 4  # the group goes on
        assert tg.verdict == "ok" and [o.stopped_by for o in tg.outcomes[:2]] == ["interrupt"] * 2

    run(main())


def test_timeouts_inside_and_outside(stage: MakeStage) -> None:
    running = stage("running")

    async def main() -> None:
        async with Group(workers=1) as tg:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await tg.run(sleep_long)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(tg.submit(sleep_long), 0.1)
            assert await tg.run(square, 2) == 4
        assert here().cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                async with Group(workers=1) as tg:
                    tg.create_task(forever())
                    tg.submit(sleep_long, running)
                    worker = int(await reached(running))
                    limit.reschedule(asyncio.get_running_loop().time())
                    await forever()
        assert not alive(worker) and here().cancelling() == 0
        assert tg.reason.kind == "parent" and tg.verdict == "cancelled"

    run(main())


def test_cancelled_while_it_waits_for_the_rest(stage: MakeStage) -> None:
    running = stage("running")

    async def scope(left: asyncio.Event) -> None:
        async with Group(workers=1) as tg:
            tg.submit(token_loop, running)
            await reached(running)
            left.set()

    async def main() -> None:
        left = asyncio.Event()
        task = asyncio.create_task(scope(left))
        await left.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # again and again, as some frameworks do: no kill, and one CancelledError
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 2

    run(main())


def test_S33_failures_come_before_a_cancellation(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")

    async def late() -> None:
        try:
            await forever()
        finally:
            raise OSError("late")

    async def scope() -> None:
        async with Group(workers=1) as tg:
            tg.create_task(late())
            tg.submit(hold, running, go)
            await forever()

    async def main() -> None:
        task = asyncio.create_task(scope())
        await reached(running)
        task.cancel()
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert [type(e) for e in caught.value.exceptions] == [OSError]
        assert task.cancelling() == 1

    run(main())


def test_cancelled_while_it_opens_or_before() -> None:
    async def scope() -> None:
        async with Group(workers=1):
            await forever()

    async def main() -> None:
        for turns in (1, 2):
            task = asyncio.create_task(scope())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def cleans_up() -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                # Entered with a cancellation pending: our own is counted from there.
                with pytest.raises(ExceptionGroup):
                    async with Group(workers=1) as tg:
                        tg.submit(fail)
                        await forever()
                assert here().cancelling() == 1
                await asyncio.sleep(0)
                raise

        task = asyncio.create_task(cleans_up())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_within_and_around_asyncios_own_group(stage: MakeStage) -> None:
    async def ours(text: str) -> None:
        async with Group(workers=1) as tg:
            await tg.run(fail, text)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as atg:
                atg.create_task(ours("inner"))
                await forever()
        assert [str(e) for e in leaves(caught.value)] == ["inner"]

        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1) as tg:
                async with asyncio.TaskGroup() as atg:
                    atg.create_task(tg.run(fail, "once"))  # leaves as a group of asyncio's
                    await forever()
        assert [str(e) for e in caught.value.exceptions] == ["once"]
        assert tg.reason.kind == "failure" and here().cancelling() == 0

        async def again(tg: andon.aio.TaskGroup, stop: asyncio.Event) -> None:
            await stop.wait()
            tg.submit(square, 1)  # Cancelled, into asyncio's group

        async with Group(workers=1) as tg:
            async with asyncio.TaskGroup() as atg:
                stop = asyncio.Event()
                atg.create_task(again(tg, stop))
                tg.cancel("enough")
                stop.set()
                await forever()
        assert tg.reason.kind == "cancel" and here().cancelling() == 0

    run(main())


def test_S37_a_scope_in_a_scope(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")

    async def inner(kept: list[andon.aio.TaskGroup]) -> None:
        async with asyncio.timeout(PATIENCE):
            async with Group(workers=1) as tg:
                kept.append(tg)
                await tg.run(sleep_long, running)

    async def main(as_sibling: bool) -> None:
        kept: list[andon.aio.TaskGroup] = []
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1) as outer:
                outer.submit(fail_when, go, "outer")
                if as_sibling:
                    outer.create_task(inner(kept))
                    background = asyncio.create_task(inner(kept))
                    await asyncio.to_thread(running.wait, 2)
                else:
                    background = asyncio.create_task(reached(running))
                    background.add_done_callback(lambda _: go.release())
                    await inner(kept)
                go.release()
                await forever()
        assert [str(e) for e in leaves(caught.value)] == ["outer"]
        assert [tg.reason.kind for tg in kept] == ["parent"] * len(kept) and kept
        assert here().cancelling() == 0
        if as_sibling:  # nobody's child, but it runs in our context: it ends as cancelled
            with pytest.raises(asyncio.CancelledError):
                await background

    run(main(False))
    go.release(0)
    run(main(True))


def test_S37_in_the_body_of_a_scope_without_a_loop(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    kept: list[andon.aio.TaskGroup] = []

    async def main() -> None:
        async with Group(workers=1) as tg:
            kept.append(tg)
            tg.submit(sleep_long, running)
            await reached(running)
            go.release()
            await forever()

    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1) as outer:
        outer.submit(fail_when, go, "outer")
        run(main())
    assert [str(e) for e in caught.value.exceptions] == ["outer"]
    assert kept[0].reason is not None and kept[0].reason.kind == "parent"


# Futures ----------------------------------------------------------------------------------------


def test_futures(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    said: list[object] = []

    async def main() -> None:
        async with Group(workers=2, policy=andon.collect_all()) as tg:
            held = tg.submit(hold, running, go)
            await reached(running)
            with pytest.raises(asyncio.InvalidStateError):
                held.result()
            held.add_done_callback(said.append)
            other = tg.submit(square, 3)
            done, pending = await asyncio.wait([held, other], return_when="FIRST_COMPLETED")
            assert (done, pending) == ({other}, {held})
            shielded = asyncio.ensure_future(asyncio.shield(held))
            await asyncio.sleep(0)
            shielded.cancel()
            go.release()
            assert await held == held.result() == "released" and not held.cancel()
            bad = tg.submit(fail, "bad")
            assert [str(r) for r in await asyncio.gather(bad, other, return_exceptions=True)] == [
                "bad",
                "9",
            ]
            assert isinstance(bad.exception(), ValueError)
            stopped = tg.submit(sleep_long, running)
            await reached(running)
            assert stopped.cancel() and stopped.cancel() and not stopped.done()
            with pytest.raises(andon.TaskCancelledError) as caught:
                await stopped
            assert caught.value.stopped_by == "interrupt" and caught.value.reason is None
            assert stopped.cancelled() and not stopped.cancel()
            for each in asyncio.as_completed([tg.submit(square, i) for i in range(3)]):
                assert await each in (0, 1, 4)
        assert said == [held]

    run(main())


def test_a_future_belongs_to_its_loop() -> None:
    async def main() -> None:
        async with Group(workers=1) as tg:
            future = tg.submit(sleep_long)

            async def elsewhere() -> None:
                with pytest.raises(RuntimeError, match="another event loop"):
                    await future
                with pytest.raises(RuntimeError, match="loop's thread"):
                    tg.submit(square, 1)
                tg.cancel("from another thread")

            await asyncio.to_thread(asyncio.run, elsewhere())

    run(main())


# Maps -------------------------------------------------------------------------------------------


def test_S46_async_input_is_read_lazily_and_not_past_the_stop(stage: MakeStage) -> None:
    read: list[int] = []
    ended: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                read.append(len(read))
                yield read[-1]
                await asyncio.sleep(0)
        finally:
            ended.append("input")

    async def main() -> None:
        got: list[int] = []
        async with Group(workers=2) as tg:
            async for result in tg.map(square, endless(), buffersize=4):
                got.append(result)
                assert len(read) <= len(got) + 4
                if len(got) == 50:
                    break
        assert tg.verdict == "ok"  # what had been read was finished, and no more was
        assert tg.stats.submitted <= 54 and got == [x * x for x in range(50)]
        with pytest.raises(ExceptionGroup):
            async with Group(workers=2) as tg:
                async for _ in tg.map(fail_at_30, endless()):
                    pass
        assert tg.verdict == "failed"

    run(main())
    assert len(read) < 20_000 and ended == ["input", "input"]


def fail_at_30(x: int) -> int:
    return fail_at(30, x % 100)


def test_S46_the_front_is_handed_out_before_the_stop() -> None:
    async def main() -> None:
        got: list[int] = []
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1) as tg:
                async for result in tg.map(fail_at_30, range(100), chunksize=10):
                    got.append(result)
        assert got == list(range(30))
        assert [str(e) for e in caught.value.exceptions] == ["bad item 30"]
        async with Group(workers=1) as tg:
            outcomes = [o async for o in tg.imap(square, range(3), return_outcomes=True)]
        assert sorted(o.value for o in outcomes) == [0, 1, 4]

    run(main())


def test_S46_errors_and_blocks_of_the_input() -> None:
    never = threading.Event()

    async def breaks() -> AsyncIterator[int]:
        yield 1
        raise OSError("the input")

    async def blocks() -> AsyncIterator[int]:
        yield 30
        await forever()

    def blocks_a_thread() -> Iterator[int]:
        yield 30
        never.wait(PATIENCE)

    async def main() -> None:
        for iterated in (True, False):
            with pytest.raises(ExceptionGroup) as caught:
                async with Group(workers=1) as tg:
                    results = tg.map(square, breaks())
                    if iterated:
                        assert [r async for r in results] == [1]
            assert [type(e) for e in caught.value.exceptions] == [OSError]
            assert tg.reason.kind == "body" and here().cancelling() == 0
        for source in (blocks, blocks_a_thread):
            with pytest.raises(ExceptionGroup):
                async with Group(workers=1) as tg:
                    async for _ in tg.map(fail_at_30, source()):
                        pass
        with pytest.raises(TypeError, match="must be iterable"):
            async with Group(workers=1) as tg:
                try:
                    tg.map(square, 3)  # type: ignore[arg-type]
                except TypeError as error:
                    raised = error
            raise raised

    try:
        run(main())
    finally:
        never.set()


# Loops that end ---------------------------------------------------------------------------------


def test_a_loop_that_is_closed_while_tasks_run(stage: MakeStage) -> None:
    running = stage("running")
    groups: list[andon.aio.TaskGroup] = []

    async def main(own: bool) -> None:
        tg = Group(workers=1) if own else Group(pool=pool)
        async with tg:
            groups.append(tg)
            await tg.run(sleep_long, running)

    with andon.Pool(1) as pool:
        for own in (True, False):
            until = time.monotonic() + PATIENCE
            loop = asyncio.new_event_loop()
            task = loop.create_task(main(own))
            worker = int(loop.run_until_complete(reached(running)))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            loop.set_exception_handler(lambda *_: None)
            del task
            group = groups.pop()._scope.group  # type: ignore[union-attr]
            # The coroutine is dropped, and with it the scope in it: by the first collection that no
            # thread which is just sending the call stands in the way of.
            while not group.closed and time.monotonic() < until:
                gc.collect()
                group.ended.wait(lambda g=group: g.closed, 0.1)  # type: ignore[misc]
            assert group.closed and group.reason.kind == "cancel"
            del group
            wait_gone([worker])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_siblings() -> None:
    async def breaks() -> None:
        raise KeyError("at once")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        with pytest.raises(ExceptionGroup) as caught:
            async with Group(workers=1) as tg:
                tg.create_task(tg.run(square, 1))
                tg.create_task(breaks())
                await forever()
        assert [type(e) for e in caught.value.exceptions] == [KeyError]
        assert here().cancelling() == 0

    run(main())
