"""What is told of the globals of `__main__`: are they as they were?"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from andon import _stamps
from andon._stamps import Unchanged
from tests.support import run_python

LONG = "a long text " * 1000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, 2),
        (1, True),
        ("", b""),
        ([1, "a"], [1, "b"]),
        ([1], (1,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (LONG, LONG + "!"),
        ([LONG], [LONG.encode()]),
        ({"usage": LONG}, {"usage": LONG[::-1]}),
    ],
)
def test_S28_a_plain_global_is_as_it_was_or_not(before: Any, after: Any) -> None:
    for one, other in ((before, after), (after, before)):
        kept = Unchanged.of(one)
        assert kept is not None and kept.is_as(one) and not kept.is_as(other)


def test_no_large_value_is_copied_to_be_told() -> None:
    large = b"x" * 10_000_000
    tracemalloc.start()
    try:
        kept = Unchanged.of(large), Unchanged.of([large]), Unchanged.of({"large": large})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(kept) and peak < 1_000_000


def test_no_hashing_library_is_loaded_to_tell_a_long_text() -> None:
    program = f"""\
import sys
from andon._stamps import Unchanged
assert Unchanged.of({LONG!r}).is_as({LONG!r})
assert "hashlib" not in sys.modules
"""
    done = run_python(["-c", program])
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_global_that_another_thread_changes_meanwhile_is_not_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain_a_moment_ago(value: list[Any]) -> bool:
        value.append(object())
        return True

    kept = Unchanged.of([1])
    assert kept is not None
    monkeypatch.setattr(_stamps, "is_plain", plain_a_moment_ago)
    assert Unchanged.of([1]) is None and not kept.is_as([1])
