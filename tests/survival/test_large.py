"""Large arguments and results under every start method: whole, apart, and gone when they should be
(S20, S25, S27, S28)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import andon
from andon._buffers import memory
from andon._buffers.ring import _SIZE as RING
from andon._engines.local.store import KEEP
from tests import large
from tests.large import blob
from tests.support import Stage

MakeStage = Callable[..., Stage]
MB = 1 << 20


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.Pool]:
    with andon.Pool(2, start_method=start_method) as pool:
        yield pool


def in_store(pool: andon.Pool) -> int:
    """Bytes of memory that the pool's store takes."""
    engine: Any = pool._runtime._engine
    return os.fstat(engine._store.fd).st_blocks * 512


def test_whatever_is_large_comes_back_as_it_was(pool: andon.Pool) -> None:
    values = [
        bytes(range(256)) * 1000,
        bytearray(b"ab") * MB,
        "ü" * MB,
        {"deep": [(blob(MB), blob(100)), blob(3 * MB + 1)], "more": b"x" * 70_000},
        list(range(50_000)),
        blob(65_535),
        blob(65_536),
        blob(RING // 2 + 1),  # more than the ring takes: through the pipe
        (blob(RING // 4), b"y" * (RING // 3)),
        large.Blob(b"read only" * MB),
    ]
    for _ in range(2):  # the second time as large ones are expected to be
        assert pool.map(large.same, values, chunksize=3) == values
    for value in values:
        assert pool.apply(large.same, (value,)) == value
    with memoryview(pool.apply(large.same, (blob(5 * MB),)).buffer) as view:
        assert not view.readonly and view[0] == 7
    with memoryview(pool.apply(large.same, (large.Blob(bytes(MB)),)).buffer) as view:
        assert view.readonly


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def shout(kind: type[Exception], size: int) -> None:
    raise kind("x" * size)


def test_an_error_with_much_to_say_comes_back_as_it_was(start_method: str) -> None:
    """And what is told of it beside it (a reason, a traceback) is no longer than anyone reads."""
    said = "x" * (20 * MB)
    with andon.TaskGroup(
        workers=1, start_method=start_method, policy=andon.collect_all()
    ) as tg:
        whole = tg.submit(shout, ValueError, len(said))
        told = tg.submit(shout, Unpicklable, len(said))
        last = tg.submit(abs, -1)
    error = whole.exception()
    assert type(error) is ValueError and str(error) == said
    assert isinstance(error.__cause__, andon.RemoteTraceback)
    assert len(str(error.__cause__)) < 2 * MB
    error = told.exception()
    assert isinstance(error, andon.SerializationError)
    assert len(str(error)) < 2 * MB and str(error).endswith(": TypeError: not this one")
    assert last.result() == 1


def test_S28_neither_side_sees_what_the_other_changes_later(
    pool: andon.Pool, stage: MakeStage
) -> None:
    reached, go = stage("reached"), stage("go")
    mine = blob(4 * MB)
    assert pool.apply(large.is_lent, (mine,)), "the worker reads it where it lies"
    assert pool.apply(large.writes, (mine,)) == (7, 7)
    assert mine == blob(4 * MB)
    waiting = pool.apply_async(large.first_when, (mine, reached, go))
    reached.wait()
    mine.buffer[-1] = 1
    go.release()
    assert waiting.get(20) == 7


def test_what_a_task_keeps_of_its_arguments_stays_as_it_was(
    start_method: str, stage: MakeStage
) -> None:
    go, told = stage("go"), stage("told")
    with andon.Pool(1, start_method=start_method) as pool:
        for byte in range(1, 4):
            pool.apply(large.keeps, (blob(2 * MB, byte),))
        pool.apply(large.forks_with, (blob(2 * MB, 9), go, told))
        for byte in range(20, 30):  # their room is used again
            assert pool.apply(len, (blob(2 * MB, byte),)) == 2 * MB
        assert pool.apply(large.kept) == [(2 * MB, byte, True) for byte in range(1, 4)]
        go.release()
        assert told.word() == "{9}"


def test_memory_goes_back_when_tasks_are_over(pool: andon.Pool, stage: MakeStage) -> None:
    reached, go = stage("reached"), stage("go")
    with andon.TaskGroup(pool=pool) as tg:
        for _ in range(2):
            tg.submit(large.first_when, blob(MB), reached, go)
        reached.wait(2)
        waiting = [tg.submit(len, blob(20 * MB)) for _ in range(8)]
        assert in_store(pool) >= 160 * MB
        for future in waiting[:4]:
            future.cancel()
        go.release(2)
    assert [f.result() for f in waiting[4:]] == [20 * MB] * 4
    assert in_store(pool) <= KEEP
    assert sum(pool.imap(len, (blob(20 * MB) for _ in range(20)))) == 400 * MB
    assert in_store(pool) <= KEEP


def test_killed_while_it_writes_its_result(pool: andon.Pool) -> None:
    for size in (5 * MB, 100_000):
        with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
            bad = tg.submit(large.dies_writing, size)
            good = [tg.submit(large.same, blob(size, n)) for n in range(4)]
        error = bad.exception()
        assert type(error) is andon.WorkerDiedError and error.phase == "sending"
        assert [f.result() for f in good] == [blob(size, n) for n in range(4)]


@pytest.mark.parametrize("size", [100_000, 5 * MB])
def test_killed_while_it_reads_its_arguments(start_method: str, size: int) -> None:
    with andon.Pool(1, start_method=start_method) as pool:
        victim = pool.apply(large.breaks_reading)
        with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
            futures = [tg.submit(large.same, blob(size, n)) for n in range(3)]
        error = futures[0].exception()
        assert type(error) is andon.WorkerDiedError
        assert (error.pid, error.phase) == (victim, "unpickling")
        assert [f.result() for f in futures[1:]] == [blob(size, n) for n in range(1, 3)]


def test_without_shared_memory_all_goes_through_the_pipes(
    pool: andon.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory, "write", full)
    values = [blob(3 * MB), b"x" * MB, {"a": blob(100_000), "b": "y" * 100_000}]
    assert pool.map(large.same, values, chunksize=2) == values
    monkeypatch.undo()
    assert pool.apply(large.no_room, (3 * MB,)) == blob(3 * MB, 3)


def test_S28_a_result_that_the_parent_has_no_memory_for_fails_alone(
    pool: andon.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = memory.room

    def small_room(length: int) -> memory.Room:
        if length > 4 * MB:
            raise MemoryError
        return room(length)

    monkeypatch.setattr(memory, "room", small_room)
    sizes = [MB, 5 * MB, RING // 2 + 1, 2 * MB]
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        futures = [tg.submit(blob, size) for size in sizes]
    for size, future in zip(sizes, futures, strict=True):
        if size > 4 * MB:
            error = future.exception()
            assert type(error) is andon.SerializationError and "MemoryError" in error.original
        else:
            assert future.result() == blob(size)


def test_a_large_initarg_is_there_once_for_all_workers(start_method: str) -> None:
    with andon.Pool(2, large.keeps, (blob(8 * MB, 5),), start_method=start_method) as pool:
        assert pool.map(len, [blob(2 * MB)] * 6, chunksize=1) == [2 * MB] * 6
        assert pool.apply(large.kept) == [(8 * MB, 5, True)]
