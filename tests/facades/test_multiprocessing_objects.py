"""Objects of `multiprocessing` among the arguments: as its own pool would take them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import socket
import threading
import warnings
from collections.abc import Iterator
from multiprocessing import resource_sharer, util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import andon
import andon.aio
from andon._grouping import Grouping
from andon._runtime.waits import Waits
from andon.outcome import TaskState
from tests.support import PATIENCE, eventually, run_python


@pytest.fixture(scope="module", autouse=True)
def what_stays_to_the_end() -> None:
    """The folder of the sockets over which `multiprocessing` hands descriptors over, and its heap
    of shared values."""
    util.get_temp_dir()  # type: ignore[attr-defined]
    multiprocessing.RawArray("b", 1 << 20)


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.Pool]:
    with andon.Pool(2, start_method=start_method) as pool:
        yield pool
    resource_sharer.stop(5)  # type: ignore[no-untyped-call]


def answer(connection: Connection[Any, Any], value: object) -> int:
    with connection:
        connection.send(value)
        return connection.fileno()


def test_one_end_of_a_pipe(pool: andon.Pool) -> None:
    for value in ("first", "second"):
        ours, theirs = multiprocessing.Pipe()
        pool.apply(answer, (theirs, value))
        theirs.close()
        assert ours.poll(20) and ours.recv() == value
        with pytest.raises(EOFError):
            ours.recv()
        ours.close()


class Large:
    """As an array is pickled, whose buffer stays apart."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Large, (pickle.PickleBuffer(self.data),)


def answer_size(connection: Connection[Any, Any], large: Large) -> None:
    answer(connection, len(large.data))


def test_one_end_of_a_pipe_beside_what_is_large(pool: andon.Pool) -> None:
    """It is handed over once, so the other end hears of its end."""
    ours, theirs = multiprocessing.Pipe()
    pool.apply(answer_size, (theirs, Large(bytearray(1 << 20))))
    theirs.close()
    assert ours.poll(20) and ours.recv() == 1 << 20
    with pytest.raises(EOFError):
        assert ours.poll(20)
        ours.recv()
    ours.close()


def say(sock: socket.socket) -> None:
    with sock:
        sock.sendall(b"said")


def test_a_socket(pool: andon.Pool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pool.map(say, [theirs])
        theirs.close()
        assert ours.recv(9) == b"said"


def put(queue: Any, event: Any, value: int) -> None:
    event.wait(20)
    queue.put(value)


def test_proxies_of_a_manager(pool: andon.Pool) -> None:
    with multiprocessing.Manager() as manager:
        queue, event = manager.Queue(), manager.Event()
        result = pool.starmap_async(put, [(queue, event, n) for n in range(4)])
        event.set()
        result.get(20)
        assert sorted(queue.get() for _ in range(4)) == [0, 1, 2, 3]


def test_queues_and_locks_are_no_arguments(pool: andon.Pool) -> None:
    for thing in (multiprocessing.Lock(), multiprocessing.Queue()):
        with pytest.raises(andon.SerializationError, match="inheritance"):
            pool.apply(print, (thing,))


shared: tuple[Any, ...] = ()


def share(*given: Any) -> None:
    global shared
    shared = given


def fill(number: int) -> None:
    queue, value, raw, array, pipe, barrier = shared
    if number < 2:
        barrier.wait(20)
    queue.put(number)
    with value.get_lock():
        value.value += number
    raw.value = array[number] = 7
    pipe.send(number)


def test_what_an_initializer_may_be_given(start_method: str) -> None:
    """Also where workers are replaced: each gets at the same ones, and what it has put into a
    queue goes out before it ends."""
    context: Any = multiprocessing.get_context(start_method)
    queue, value, raw = context.Queue(), context.Value("i", 0), context.RawValue("i", 0)
    array, barrier = context.Array("i", 6), context.Barrier(2)
    ours, theirs = context.Pipe(duplex=False)
    given = queue, value, raw, array, theirs, barrier
    with andon.Pool(2, share, given, maxtasksperchild=1, context=context) as pool:
        pool.map(fill, range(6), chunksize=1)
        assert sorted(queue.get(timeout=20) for _ in range(6)) == list(range(6))
    assert value.value == 15 and raw.value == 7 and list(array) == [7] * 6
    assert sorted(ours.recv() for _ in range(6)) == list(range(6))
    queue.close()
    ours.close()
    theirs.close()


def flood(number: int) -> None:
    """More than its pipe holds."""
    shared[0].put((number, bytes(1 << 20)))


def until_flushing(pool: Any, *, hurry: bool = True) -> None:
    """A worker that was asked to leave waits for a reader, and outlives its bound: before that is
    over, to spare each test two seconds, unless told otherwise."""
    runtime = pool._entered().group.runtime if isinstance(pool, Grouping) else pool._runtime
    engine = runtime._engine
    bounds: dict[int, Any] = {}  # one that has nothing to flush does not outlive its own

    def outlived() -> bool:
        with engine._config.lock:
            for worker in engine._crew.workers.values():
                if worker.flushes and worker.timer is not None:
                    if bounds.setdefault(worker.serial, worker.timer) is not worker.timer:
                        return True
                    if hurry:
                        engine._ledger._overstays(worker)
        return False

    eventually(outlived)


def until_lanes_are_left() -> None:
    """The thread that has closed a group of asyncio's leads to it, and so to the queue, until it
    ends: the collector, which frees what an error leads to, is to find it gone."""
    eventually(lambda: not any(t.name.endswith("-aio") for t in threading.enumerate()))


@pytest.mark.linux
def test_what_was_put_into_a_queue_is_there_after_close(start_method: str) -> None:
    queue = multiprocessing.get_context(start_method).Queue()
    pool = andon.Pool(2, share, (queue,), start_method=start_method)
    pool.map(flood, range(3), chunksize=1)
    pool.close()
    until_flushing(pool, hurry=False)
    assert sorted(queue.get(timeout=PATIENCE)[0] for _ in range(3)) == [0, 1, 2]
    pool.join()
    queue.close()


@pytest.mark.linux
@pytest.mark.parametrize("surface", ["executor", "group"])
def test_what_was_put_into_a_queue_is_there_after_the_with(
    start_method: str, surface: str
) -> None:
    queue = multiprocessing.get_context(start_method).Queue()
    got: list[int] = []
    options: Any = {"initializer": share, "initargs": (queue,), "start_method": start_method}
    pool: Any
    if surface == "executor":
        pool = andon.ProcessPoolExecutor(1, **options)
    else:
        pool = andon.TaskGroup(workers=1, **options)

    def read() -> None:
        until_flushing(pool)
        got.extend(queue.get(timeout=PATIENCE)[0] for _ in range(2))

    reader = threading.Thread(target=read)
    with pool:
        for number in range(2):
            pool.submit(flood, number)
        reader.start()
    reader.join()
    assert got == [0, 1]
    queue.close()


@pytest.mark.linux
def test_what_was_put_into_a_queue_is_there_after_the_async_with(start_method: str) -> None:
    queue = multiprocessing.get_context(start_method).Queue()
    got: list[int] = []

    def read(group: andon.aio.TaskGroup) -> None:
        until_flushing(group)
        got.append(queue.get(timeout=PATIENCE)[0])

    async def main() -> None:
        async with andon.aio.TaskGroup(
            workers=1, initializer=share, initargs=(queue,), start_method=start_method
        ) as group:
            group.submit(flood, 1)
            reader = threading.Thread(target=read, args=(group,))
            reader.start()
        reader.join()

    asyncio.run(main())
    until_lanes_are_left()
    assert got == [1]
    queue.close()


@pytest.mark.linux
@pytest.mark.parametrize("how", ["group", "task", "waiting task"])
def test_S21_nobody_waits_for_a_reader_once_an_async_group_is_cancelled(
    start_method: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that comes while it waits."""
    monkeypatch.setattr(Waits.wait_flushed, "__defaults__", (1000.0,))
    queue = multiprocessing.get_context(start_method).Queue()
    groups: list[andon.aio.TaskGroup] = []

    async def body() -> None:
        async with andon.aio.TaskGroup(
            workers=1, initializer=share, initargs=(queue,), start_method=start_method
        ) as group:
            groups.append(group)
            await group.run(flood, 1)
            if how == "group":
                group.cancel("enough")
            elif how == "task":
                await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(body())
        if how == "task":
            while not groups or groups[0].stats.succeeded < 1:
                await asyncio.sleep(0.001)
            task.cancel()
        elif how == "waiting task":
            while not groups:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(until_flushing, groups[0])
            assert not task.done()
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert how != "group"
        else:
            assert how == "group"

    asyncio.run(main())
    assert groups[0].verdict == ("ok" if how == "waiting task" else "cancelled")
    until_lanes_are_left()
    queue.close()
    queue.join_thread()


@pytest.mark.linux
def test_what_a_worker_of_few_tasks_has_put_is_there(start_method: str) -> None:
    queue = multiprocessing.get_context(start_method).Queue()
    options: Any = {"maxtasksperchild": 1, "start_method": start_method}
    with andon.Pool(1, share, (queue,), **options) as pool:
        pool.apply(flood, (1,))
        until_flushing(pool)
        second = pool.apply_async(flood, (2,))
        assert [queue.get(timeout=PATIENCE)[0] for _ in range(2)] == [1, 2]
        second.get()
    queue.close()


@pytest.mark.linux
def test_a_stop_ends_the_wait_for_the_place_of_a_worker_whose_queue_nobody_reads(
    start_method: str,
) -> None:
    queue = multiprocessing.get_context(start_method).Queue()
    with andon.TaskGroup(
        workers=1, max_tasks_per_worker=1, initializer=share, initargs=(queue,),
        start_method=start_method,
    ) as group:  # fmt: skip
        first, second = group.submit(flood, 1), group.submit(flood, 2)
        first.result(PATIENCE)
        until_flushing(group)
        assert not second.running()
        group.cancel("enough")
    assert [(o.state, o.started) for o in group.outcomes] == [
        (TaskState.SUCCEEDED, True), (TaskState.CANCELLED, False)
    ]  # fmt: skip
    queue.close()
    queue.join_thread()


@pytest.mark.linux
@pytest.mark.parametrize("how", ["terminate", "terminate_workers", "kill_workers"])
def test_S21_nobody_waits_for_a_reader_once_all_is_stopped(start_method: str, how: str) -> None:
    queue = multiprocessing.get_context(start_method).Queue()
    options: Any = {"initializer": share, "initargs": (queue,), "start_method": start_method}
    pool: Any
    if how == "terminate":
        pool = andon.Pool(1, **options)
        pool.apply(flood, (1,))
        pool.close()
    else:
        pool = andon.ProcessPoolExecutor(1, **options)
        pool.submit(flood, 1).result()
        pool.shutdown(wait=False)
    until_flushing(pool)
    getattr(pool, how)()
    if how == "terminate":
        pool.join()
    else:
        pool.shutdown()
    queue.close()
    queue.join_thread()


@pytest.mark.linux
def test_what_it_may_not_be_given() -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, pytest.raises(andon.SerializationError, match="duplex pipes"):
        andon.Pool(1, share, (theirs,), start_method="spawn")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with ours, andon.Pool(1, share, (theirs,), start_method="spawn") as pool:
        pool.apply(abs, (1,))
        theirs.close()
        with pytest.raises(andon.WorkerDiedError):
            pool.apply(die)
        with pytest.raises(andon.InitializerError, match="keep it open as long as the pool"):
            pool.apply(abs, (1,))


def die() -> None:
    os._exit(1)


def add_up(number: int) -> None:
    queue, counts, lock = shared
    for _ in range(20):
        with lock:
            counts["sum"] += number
    queue.put(number)


def test_what_forked_workers_have_inherited_in_use() -> None:
    """A queue with its thread, proxies with their connections: each worker has its own."""
    context: Any = multiprocessing.get_context("fork")
    queue = context.Queue()
    with context.Manager() as manager:
        counts, lock = manager.dict(sum=0), manager.Lock()
        queue.put("first")
        assert queue.get() == "first"
        with andon.Pool(2, share, (queue, counts, lock), context=context) as pool:
            pool.map(add_up, range(4), chunksize=1)
            assert sorted(queue.get(timeout=20) for _ in range(4)) == [0, 1, 2, 3]
        assert counts["sum"] == 120
    queue.close()
    queue.join_thread()


def runs_map(options: Any) -> None:
    andon.map(flood, range(2), **options)


def runs_group(options: Any) -> None:
    with andon.TaskGroup(**options) as group:
        group.submit(flood, 1)


def runs_async_group(options: Any) -> None:
    async def main() -> None:
        async with andon.aio.TaskGroup(**options) as group:
            group.submit(flood, 1)

    asyncio.run(main())


@pytest.mark.linux
@pytest.mark.parametrize("runs", [runs_map, runs_group, runs_async_group])
@pytest.mark.parametrize("filtered", ["default", "error"])
def test_nobody_reads_what_was_put_into_a_queue(
    start_method: str, runs: Any, filtered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up then, with a warning where the program has left: nobody hangs who has not
    asked to wait."""
    monkeypatch.setattr(Waits.wait_flushed, "__defaults__", (0.2,))
    queue = multiprocessing.get_context(start_method).Queue()
    options = {
        "workers": 1, "initializer": share, "initargs": (queue,), "start_method": start_method
    }  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter(filtered)
        try:
            runs(options)
        except* RuntimeWarning as raised:
            assert filtered == "error" and "Read the queue" in str(raised.exceptions[0])
        else:
            assert filtered == "default"
    del options
    if filtered == "default":
        (warning,) = told
        assert warning.category is RuntimeWarning and "Read the queue" in str(warning.message)
        assert warning.filename == __file__
    until_lanes_are_left()
    queue.close()
    queue.join_thread()


EXITS = """
import multiprocessing, sys, andon
from andon._runtime.waits import Waits
Waits.wait_flushed.__defaults__ = (0.2,)
from tests.facades.test_multiprocessing_objects import flood, share
if __name__ == "__main__":
    queue = multiprocessing.get_context(sys.argv[1]).Queue()
    executor = andon.ProcessPoolExecutor(
        1, initializer=share, initargs=(queue,), start_method=sys.argv[1]
    )
    executor.submit(flood, 1).result()
"""


@pytest.mark.linux
def test_nobody_reads_what_was_put_into_a_queue_before_the_program_ends(
    start_method: str, tmp_path: Path
) -> None:
    program = tmp_path / "exits.py"
    program.write_text(EXITS)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = run_python([program, start_method], env={"PYTHONPATH": path})
    assert done.returncode == 0 and done.stderr.count("RuntimeWarning: ") == 1, done.stderr
