"""The parent's end of a worker's answers, where pipes can be polled."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("its pipes are read by threads", allow_module_level=True)

from andon import _wire
from andon._buffers import memory
from andon._engines.local.channel import LARGE_PIPE, Reader, enlarge
from andon._engines.local.frames import Cutter, Frame


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
