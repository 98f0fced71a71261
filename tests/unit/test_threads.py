"""Waiting by threads, as Windows does (`_engines/local/threads.py`), over Linux's pipes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from andon import _wire
from andon._engines.local import descriptors
from andon._engines.local.frames import Frame
from andon._engines.local.orders import Orders
from andon._engines.local.threads import AHEAD, Poller, Reader, Writer
from tests.support import PATIENCE, allowed, eventually


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            pass


def frame(length: int, attempt: int = 1) -> bytes:
    body = bytes(n % 251 for n in range(length))
    return _wire.pack(_wire.VALUE, 0, attempt, (attempt,), length) + body


def collect(poller: Poller, reader: Reader, until: Callable[[list[Frame]], bool]) -> list[Frame]:
    frames: list[Frame] = []
    poller.add(reader.fd, lambda: frames.extend(reader.read()))
    deadline = time.monotonic() + PATIENCE
    while not until(frames):
        assert time.monotonic() < deadline, frames
        for handle in poller.wait(1.0):
            handle()
    return frames


@pytest.mark.parametrize("piece", [1, 7, 65536, 1 << 20])
def test_frames_come_whole_whatever_the_pieces(
    poller: Poller, pipe: tuple[int, int], piece: int
) -> None:
    read, write = pipe
    sizes = [0, 3, 100] if piece < 65536 else [0, 65536, 131072, 3_000_000, 5]
    data = b"".join(frame(size, n) for n, size in enumerate(sizes))

    def send() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(write, view[:piece]) :]

    sender = threading.Thread(target=send)
    sender.start()
    reader = poller.reader(read)
    frames = collect(poller, reader, lambda found: len(found) == len(sizes))
    sender.join()
    assert [len(f[4]) for f in frames] == sizes
    assert all(bytes(f[4]) == frame(size)[-size:] for f, size in zip(frames, sizes, strict=True)
               if size)  # fmt: skip
    assert not reader.closed
    os.close(write)
    collect(poller, reader, lambda found: reader.closed)


def test_S27_all_that_a_dead_worker_wrote_is_drained(
    poller: Poller, pipe: tuple[int, int]
) -> None:
    read, write = pipe
    reader = poller.reader(read)
    poller.add(read, lambda: None)
    os.write(write, frame(10) + frame(20) + frame(30)[:-1])
    os.close(write)
    assert [len(f[4]) for f in reader.drain()] == [10, 20], "a torn one is dropped"
    assert reader.closed


def test_what_is_no_frame_is_told(poller: Poller, pipe: tuple[int, int]) -> None:
    read, write = pipe
    reader = poller.reader(read)
    os.write(write, b"hello, this is a task that prints into our pipe")
    collect(poller, reader, lambda found: reader.broken)
    assert reader.closed
    os.close(write)


def test_reading_ahead_is_bounded(poller: Poller, pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    poller.add(read, lambda: None)
    written = 0

    def is_full() -> bool:
        nonlocal written
        try:
            written += os.write(write, bytes(65536))
        except BlockingIOError:
            time.sleep(0.05)
            try:
                written += os.write(write, bytes(1))
            except BlockingIOError:
                return True
        return False

    eventually(is_full)
    assert written <= (AHEAD + 3) * 65536
    os.close(write)


def test_a_wait_is_ended_by_a_wake_and_by_what_is_due_soon(poller: Poller) -> None:
    told: list[int] = []
    threading.Timer(0.02, poller.wake).start()
    assert poller.wait(PATIENCE), "or who lingers would take it for nothing"
    threading.Timer(0.02, lambda: poller.soon(lambda: told.append(1))).start()
    for handle in poller.wait(PATIENCE):
        handle()
    assert told == [1]
    assert poller.wait(0) == []
    assert poller.wait(0.01) == []


def test_a_writer_never_blocks_and_keeps_the_order(pipe: tuple[int, int]) -> None:
    read, write = pipe
    writer = Writer(descriptors.keep(os.dup(write)), descriptors.keep(os.dup(read)))
    os.close(write)
    began = time.monotonic()
    pieces = [bytes([n]) * 300_000 for n in range(10)]
    for piece in pieces:
        assert writer.write([piece, b"|"])
    assert time.monotonic() - began < allowed(1.0)
    got = b""
    while len(got) < 10 * 300_001:
        got += os.read(read, 1 << 20)
    assert got == b"".join(piece + b"|" for piece in pieces)
    writer.close()
    assert os.read(read, 1) == b"", "it has closed its end"


def test_a_writer_that_nobody_reads_can_be_closed() -> None:
    read, write = os.pipe()
    writer = Writer(descriptors.keep(write), descriptors.keep(read))
    writer.write([bytes(10_000_000)])
    writer.close()  # its thread is seen to end by the check after every test


def test_orders_never_block() -> None:
    orders = Orders()
    os.set_blocking(orders.reading_end, True)
    orders.give(b"i")
    assert os.read(orders.reading_end, 1) == b"i"
    for _ in range(3):
        orders.give(b"s")
    orders.handed_over()
    orders.give(b"i")  # to nobody
    eventually(lambda: not orders._is_waiting())
    orders.close()
    orders.give(b"i")
