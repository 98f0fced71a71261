"""Room in shared memory: nobody's is used twice, and only so much of it stays (S20, S27)."""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections import deque
from functools import partial

import pytest

from andon._buffers import memory
from andon._buffers.parcel import Parcel, loads
from andon._buffers.ring import _SIZE, Ring, Taker
from andon._engines.local.store import KEEP, Block, Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no such memory")
K = 1 << 10


def parcel(size: int) -> Parcel:
    return Parcel([bytes(size)], ())


@pytest.mark.parametrize("seed", range(3))
def test_the_stores_blocks_never_overlap_and_free_room_is_bounded(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.Mapped, "write", lambda self, offset, parts, again: None)
    rng = random.Random(seed)
    store = Store()
    blocks: list[Block] = []
    for _ in range(600):
        if rng.random() < 0.55:
            put = store.put(parcel(rng.choice((70 * K, 300 * K, 4096 * K, 3))))
            assert put is not None
            blocks.append(put[1])
            del put
        elif blocks:
            del blocks[rng.randrange(len(blocks))]
        extents = sorted([block._extent for block in blocks if block._extent] + store._free)
        ends = [0] + [offset + length for offset, length in extents]
        assert all(end <= offset for end, (offset, _) in zip(ends, extents, strict=False))
        assert store._kept == sum(length for _, length in store._free) <= KEEP
    blocks.clear()
    assert store._kept <= KEEP
    store.close()


def test_a_block_that_outlives_its_store_does_no_harm() -> None:
    store = Store()
    put = store.put(parcel(100 * K))
    assert put is not None and os.fstat(store.fd).st_blocks
    store.close()
    assert store.put(parcel(100 * K)) is None
    del put


@pytest.mark.parametrize("seed", range(3))
def test_the_ring_is_used_again_only_where_results_were_taken(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, int]] = []

    def note(self: memory.Mapped, offset: int, parts: list[bytes], again: bool) -> None:
        assert not again or all(any(s <= at < e for s, e in written) for at in (offset, offset + K))
        written.append((offset, offset + sum(map(len, parts))))

    monkeypatch.setattr(memory.Mapped, "write", note)
    rng = random.Random(seed)
    fd = memory.create()
    ring, taker = Ring(fd, 1), Taker(fd)
    waiting: deque[tuple[int, int]] = deque()
    refused = number = 0
    for _ in range(800):
        if rng.random() < 0.6:
            size = rng.choice((70 * K, 900 * K, 8192 * K, 20000 * K, _SIZE // 2 + 1))
            if ring.put(parcel(size)) is None:
                refused += 1
                continue
            start, end = written[-1]
            assert start >= memory.PAGE and end <= memory.PAGE + _SIZE
            assert all(end <= s or e <= start for s, e in waiting)
            waiting.append((start, end))
        elif waiting:
            for _ in range(rng.randint(1, 2)):  # one that is passed over is free, too
                if waiting:
                    waiting.popleft()
                    number += 1
            with pytest.raises(EOFError):
                taker.take(number, 1 << 40, (100,))
    assert refused and number
    os.close(fd)


def test_a_bare_body_has_its_buffers_where_they_are_aligned() -> None:
    sizes = enumerate((65_537, 99_991))
    buffers = [pickle.PickleBuffer(bytearray([n]) * size) for n, size in sizes]
    out: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(buffers, 5, buffer_callback=out.append)
    body = bytearray(b"".join(Parcel([stream], out).bare()))
    found = loads(body)
    assert [bytes(each) for each in found] == [bytes(each) for each in buffers]
    body[-1] ^= 1
    assert memoryview(found[1])[-1] == 1 ^ 1, "they are where they came"


def test_a_bare_body_that_cannot_be_written_is_copied() -> None:
    """As one of a small frame; see invariant 3 of parcel.py."""
    buffers = [pickle.PickleBuffer(bytearray(70 * K)), pickle.PickleBuffer(bytes(70 * K))]
    out: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(buffers, 5, buffer_callback=out.append)
    body = b"".join(Parcel([stream], out).bare())
    for given in (body, memoryview(body)):
        found = loads(given)
        assert [memoryview(each).readonly for each in found] == [False, True]
        memoryview(found[0])[0] = 1
        assert memoryview(loads(given)[0])[0] == 0


def test_room_is_used_again_when_nobody_has_it_and_only_then() -> None:
    size = memory._HUGE_FROM + 5
    memory._recent.clear()
    first = memory.room(size)
    first[0] = 1
    part = first[5:]
    del first
    assert memory.room(size)[0] == 0, "a part of it is still there"
    again = memory.room(size)
    again[0] = 2
    del part
    third = memory.room(size)
    assert (third[0], again[0], len(third)) == (1, 2, size)
    for _ in range(20):
        memory.room(size)
    assert sum(map(len, memory._recent)) <= memory._RECENT_BYTES
    memory._recent.clear()


def test_what_is_written_by_way_of_the_mapping_is_read_by_any_way() -> None:
    rng = random.Random(7)
    fd = memory.create()
    here, there = memory.Mapped(fd), memory.Mapped(fd)
    memory.grow(fd, 12 << 20)
    for size in (3, 300 * K, 5 << 20):
        for again in (False, True):
            offset = rng.randrange(1 << 20) * 4
            parts = [rng.randbytes(size), b"", rng.randbytes(1000)]
            here.write(offset, parts, again=again)
            for read in (here.read, there.read, partial(memory.read, fd)):
                rooms = [bytearray(size), bytearray(1000)]
                read(offset, rooms)
                assert rooms == [parts[0], parts[2]]
    with pytest.raises(EOFError):
        there.read(os.fstat(fd).st_size - 10, [bytearray(300 * K)])
    os.close(fd)


def test_pages_that_could_not_be_written_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    write = memory.write

    def half(fd: int, offset: int, parts: list[bytes]) -> None:
        write(fd, offset, [bytes(memory.PAGE)])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory, "write", half)
    assert store.put(parcel(400 * K)) is None
    assert store._free == [] and os.fstat(store.fd).st_blocks == 0
    monkeypatch.setattr(memory, "write", write)
    put = store.put(parcel(400 * K))
    assert put is not None
    del put
    assert len(store._free) == 1
    store.close()
