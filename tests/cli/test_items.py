"""Where the items come from: in order, exact, lazily, and never past a stop."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from andon.cli.arguments import UsageError
from andon.cli.items import LONGEST, PIECE, FileItems, InputError, ListedItems, open_items


def never() -> bool:
    return False


def from_file(path: Path, content: bytes, *, null: bool = False) -> list[str]:
    path.write_bytes(content)
    with open_items(None, str(path), null) as items:
        return list(items.read(never))


@contextmanager
def piped(*, null: bool = False) -> Iterator[tuple[FileItems, int]]:
    """Items from a pipe, and the end to write into (the test closes it, or it is closed)."""
    r, w = os.pipe()
    w2 = os.dup(w)
    os.close(w)
    try:
        with FileItems(r, null=null, owned=True) as items:
            yield items, w2
    finally:
        try:
            os.close(w2)
        except OSError:
            pass


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n  \n", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b" a b \n", [" a b "]),
        (b"a\n\nb\n", ["a", "b"]),
        ("ä\n".encode(), ["ä"]),
        (b"\xff\n", [os.fsdecode(b"\xff")]),
    ],
)
def test_lines(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert from_file(tmp_path / "list", content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a\0b\0", ["a", "b"]),
        (b"a\0b", ["a", "b"]),
        (b"a\nb\0c\r\0", ["a\nb", "c\r"]),
        (b"\0a\0", ["", "a"]),
    ],
)
def test_nul(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert from_file(tmp_path / "list", content, null=True) == expected


def test_items_longer_than_a_piece(tmp_path: Path) -> None:
    long = "x" * (2 * PIECE + 17)
    assert from_file(tmp_path / "list", f"a\n{long}\nb\n".encode()) == ["a", long, "b"]


def test_a_pipe_is_read_as_it_comes() -> None:
    with piped() as (items, w):
        reading = items.read(never)
        os.write(w, b"one\ntw")
        assert next(reading) == "one"
        os.write(w, b"o\n")
        assert next(reading) == "two"
        os.close(w)
        assert list(reading) == []
        assert not items.unread


def test_a_stop_ends_the_wait_for_a_silent_pipe() -> None:
    stop = threading.Event()
    with piped() as (items, w):
        os.write(w, b"one\nunfinish")
        reading = items.read(stop.is_set)
        assert next(reading) == "one"
        timer = threading.Timer(0.05, stop.set)
        timer.start()
        # It would wait for ever; and the line that was cut off is no item.
        assert list(reading) == []
        timer.join()
        assert list(items.rest()) == []
        assert items.unread


def test_nothing_is_read_past_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a\nb\nc\n")
    with open_items(None, str(path), False) as items:
        reading = items.read(lambda: True)
        assert list(reading) == ["a"]
        assert items.unread
        assert list(items.rest()) == ["b", "c"]
        assert not items.unread


def test_a_stop_is_seen_where_the_input_holds_no_item(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"\n" * 5 * PIECE + b"a\n")
    fd = os.open(path, os.O_RDONLY)
    with FileItems(fd, null=False, owned=True) as items:
        assert list(items.read(lambda: True)) == []
        assert os.lseek(fd, 0, os.SEEK_CUR) == PIECE
        assert list(items.rest(lambda: True)) == []
        assert os.lseek(fd, 0, os.SEEK_CUR) == 2 * PIECE
        assert items.unread
        assert list(items.rest()) == ["a"]
        assert not items.unread


@pytest.mark.parametrize("null", [False, True])
def test_an_item_without_an_end_is_no_item(null: bool, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a\0" if null else b"a\n")
    with open(path, "ab") as file:
        piece = (b"\n" if null else b"\0") * (1 << 20)
        for _ in range((LONGEST >> 20) + 1):
            file.write(piece)
    with open_items(None, str(path), null) as items:
        reading = items.read(never)
        assert next(reading) == "a"
        with pytest.raises(InputError, match=f"no (NUL|end of a line) .*in {LONGEST + PIECE - 2} "):
            next(reading)
        assert items.unread


def test_a_file_is_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"0123456\n" * PIECE)  # eight pieces
    fd = os.open(path, os.O_RDONLY)
    with FileItems(fd, null=False, owned=True) as items:
        next(items.read(never))
        assert os.lseek(fd, 0, os.SEEK_CUR) == PIECE


def test_items_of_the_command_line() -> None:
    items = ListedItems(["a", "", "b"])
    assert items.total == 3
    reading = items.read(never)
    assert next(reading) == "a"
    assert list(items.rest()) == ["", "b"]


@pytest.mark.parametrize("source", ["missing", "."])
def test_a_source_that_cannot_be_read(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"--from \S+: "):
        open_items(None, source, False)
