"""The parent's end of a worker's answers, where pipes can be polled."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("its pipes are read by threads", allow_module_level=True)

import fcntl

from andon import _wire
from andon._buffers import memory
from andon._engines.local.channel import LARGE_PIPE, Reader, enlarge
from andon._engines.local.frames import Cutter, Frame
from andon._worker import channel


@pytest.mark.parametrize("piece", [1000, 65536, 10_000_000])
def test_S27_a_long_head_is_not_copied_for_each_of_its_pieces(piece: int) -> None:
    meta = 1, 0.0, 0.0, "call", "ValueError", "x" * 3_000_000, "story"
    end = b"end" * 20_000
    data = _wire.pack(_wire.FAILURE, 0, 1, meta) + _wire.pack(_wire.VALUE, 0, 1, (2,), len(end))
    data += end
    cutter, frames = Cutter(), list[Frame]()
    buffer = cutter._buffer
    for start in range(0, len(data), piece):
        cutter._feed(data[start : start + piece], frames)
        assert cutter._buffer is buffer
    assert [frame[3] for frame in frames] == [meta, (2,)]
    assert (frames[1][4], buffer) == (end, b"")


def test_S27_what_follows_a_body_without_memory_is_drained_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(length: int) -> Any:
        raise MemoryError

    monkeypatch.setattr(memory, "room", no_room)
    length = LARGE_PIPE // 2
    read, write = os.pipe()
    enlarge(write)
    reader = Reader(read)
    try:
        data = _wire.pack(_wire.VALUE, 0, 1, (0, 0.0, 0.0, length), length) + bytes(length)
        data += _wire.pack(_wire.VALUE, _wire.LAST, 1, (1, 0.0, 0.0, 3), 3) + b"end"
        os.set_blocking(write, False)
        written = os.write(write, data)
        os.close(write)
        if written < len(data):
            pytest.skip("no pipe is as large as that")
        first, second = reader.drain()
        assert (first[3][0], first[4]) == (0, None)
        assert (second[3][0], second[4]) == (1, b"end")
        assert reader.closed
    finally:
        reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="lists descriptors")
@pytest.mark.parametrize("old_kernel", [False, True])
def test_S20_a_worker_that_is_spent_closes_what_its_task_has_opened(old_kernel: bool) -> None:
    """Wherever it is: between our own pipes, close behind them or far; also where a task has closed
    a standard stream, so that as many are open as there should be."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            requests, answers = (fcntl.fcntl(write, fcntl.F_DUPFD, at) for at in (200, 300))
            for at in (100, 250, 320, 900, 901):
                fcntl.fcntl(write, fcntl.F_DUPFD, at)
            os.close(0)
            if old_kernel:
                stat = os.stat
                os.stat = lambda path: os.stat_result([*stat(path)[:6], 0, *stat(path)[7:]])  # type: ignore[assignment]
            channel.Channel(requests, answers).close_others()
            open_now = [fd for fd in range(1, 1000) if channel._is_open(fd)]
            os.write(answers, repr(open_now).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as said:
        assert said.read() == b"[1, 2, 200, 300]"
    assert os.waitpid(pid, 0)[1] == 0
