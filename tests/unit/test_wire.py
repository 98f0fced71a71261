"""Items on the wire: what travels without a pickle comes back as it was, whole or in parts."""

from __future__ import annotations

import enum
from array import array
from typing import Any

import pytest

from andon import _wire
from andon._wire import Column, column, pack_items, unpack_items


class Number(int):
    pass


class Colour(enum.IntEnum):
    RED = 1


MOST = (1 << 31) - 1


@pytest.mark.parametrize(
    "items",
    [
        [0],
        [1, -1, MOST, -MOST - 1],
        [1.5, float("inf"), -0.0, 5e-324],
        [None, None],
        (7, 8, 9),
    ],
)
def test_a_column_comes_back_whole_and_in_parts(items: Any) -> None:
    made = column(items)
    assert isinstance(made, Column)
    for lo in range(len(items)):
        for hi in range(lo + 1, len(items) + 1):
            form, body = pack_items(made, lo, hi)
            assert form == _wire.LISTED
            again = unpack_items(form, body)
            assert repr(again) == repr(list(items[lo:hi]))


@pytest.mark.parametrize(
    "other",
    [
        True, MOST + 1, -MOST - 2, 1 << 63, 1.5, None, "", "text", b"", b"1234", (), [], {}, {1},
        Number(1), Colour.RED, bytearray(), bytearray(b"1234"), array("i", [1]), memoryview(b"i"),
        object(), ..., 1j, StopIteration,
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("plain", [1, 2.5, None], ids=repr)
def test_no_column_of_what_is_not_all_the_same(other: Any, at: int, plain: Any) -> None:
    if type(other) is type(plain) is not int:
        pytest.skip("it is the same")
    items = [plain] * 3
    items.insert(at, other)
    assert column(items) is None


def test_no_column_of_no_sequence_that_it_knows() -> None:
    assert column("abc") is None
    assert column(b"abc") is None
    assert column(range(3)) is None


def test_a_range_travels_as_such() -> None:
    form, body = pack_items(range(10, 30, 3), 2, 5)
    assert body == b"" and unpack_items(form, body) == range(16, 25, 3)
