"""Which spans say that nobody waits for a value of theirs before the map's last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import andon
from andon import _wire
from andon._engines.local import packing
from andon._engines.port import Attempt


def same(x: int) -> int:
    return x


def by_map(pool: andon.Pool) -> Any:
    return pool.map(same, range(300))


def by_chunks(pool: andon.Pool) -> Any:
    return pool.map(same, range(300), chunksize=50)


def by_async(pool: andon.Pool) -> Any:
    return pool.map_async(same, range(300)).get(60)


def by_imap(pool: andon.Pool) -> Any:
    return pool.imap(same, range(300), chunksize=50)


def by_group(pool: andon.Pool) -> Any:
    with andon.TaskGroup(pool=pool) as tg:
        return list(tg.map(same, range(300)))


@pytest.mark.parametrize(
    ("run", "gathered"),
    [(by_map, True), (by_chunks, True), (by_async, True), (by_imap, False), (by_group, False)],
)
def test_only_those_of_a_call_that_returns_all(
    run: Callable[[andon.Pool], Any], gathered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    frame = packing.frame

    def noting(attempt: Attempt, flags: int = 0) -> list[bytes]:
        parts = frame(attempt, flags)
        kind, found, *_ = _wire.unpack_header(parts[0])
        if kind == _wire.SPAN:
            seen.append(found & _wire.GATHERED)
        return parts

    monkeypatch.setattr(packing, "frame", noting)
    with andon.Pool(2) as pool:
        assert list(run(pool)) == list(range(300))
    assert set(map(bool, seen)) == {gathered}
