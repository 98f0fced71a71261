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
