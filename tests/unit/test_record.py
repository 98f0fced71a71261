"""Records behave as the dataclasses that they stand for, and cost their importer little."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from andon._record import made, record
from andon.outcome import Outcome, TaskState
from andon.policy import Stats
from tests.support import run_python


@record()
class Plain:
    one: int
    two: str = "two"
    more: list[int] = made(default_factory=list)


@dataclasses.dataclass(slots=True)
class Standard:
    one: int
    two: str = "two"
    more: list[int] = dataclasses.field(default_factory=list)


@record(eq=False)
class Itself:
    other: Any = None


@pytest.mark.parametrize("args", [(), (1,), (1, "b"), (1, "b", [3]), (1, "b", [3], 4)])
def test_it_is_made_and_told_as_the_standard_one(args: tuple[Any, ...]) -> None:
    made_by = []
    for kind in (Plain, Standard):
        try:
            made_by.append(repr(kind(*args)).partition("(")[2])
        except TypeError as error:
            made_by.append(str(error).partition("(")[2])
    assert made_by[0] == made_by[1]


def test_defaults_that_are_made_belong_to_one_record() -> None:
    assert Plain(1).more is not Plain(1).more
    assert list(inspect.signature(Plain).parameters) == ["one", "two", "more"]


def test_it_is_compared_by_value_or_by_identity() -> None:
    assert Plain(1) == Plain(1) != Plain(2)
    assert Plain(1) != Standard(1)
    assert Itself() != Itself()
    with pytest.raises(TypeError, match="unhashable"):
        hash(Plain(1))
    loop = Itself()
    loop.other = loop
    assert repr(loop) == "Itself(other=...)"


def test_it_has_slots_and_can_be_matched() -> None:
    with pytest.raises(AttributeError):
        Plain(1).three = 3  # type: ignore[attr-defined]
    match Plain(1):
        case Plain(one, two):
            assert (one, two) == (1, "two")


def test_a_frozen_one_stays_as_it_is() -> None:
    outcome = Outcome(1, TaskState.SUCCEEDED, value=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.value = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del outcome.value
    assert hash(outcome) == hash(Outcome(1, TaskState.SUCCEEDED, value=2))
    for again in (pickle.loads(pickle.dumps(outcome)), copy.deepcopy(outcome)):
        assert again == outcome
        assert again is not outcome


def test_dataclasses_knows_it() -> None:
    stats = Stats(3)
    assert dataclasses.is_dataclass(stats)
    assert dataclasses.asdict(stats)["submitted"] == 3
    assert dataclasses.replace(stats, failed=1) == Stats(3, failed=1)
    assert [f.name for f in dataclasses.fields(Plain)] == ["one", "two", "more"]
    assert dataclasses.fields(Plain)[2].default_factory is list

    @dataclasses.dataclass(frozen=True)
    class More(Outcome):
        note: str = ""

    assert More(1, TaskState.FAILED, note="so") == More(1, TaskState.FAILED, note="so")


def test_opening_a_pool_imports_nothing_heavy() -> None:
    """`dataclasses` and what it brings along were half of a pool's cold start."""
    done = run_python(
        [
            "-c",
            "import sys; before = set(sys.modules); import andon\n"
            "with andon.ProcessPoolExecutor(1, start_method='forkserver') as ex:\n"
            "    assert ex.submit(abs, -1).result() == 1\n"
            "print(*{'asyncio', 'cloudpickle', 'dataclasses', 'inspect', 'psutil', 'rich'}"
            ".intersection(sys.modules) - before)",
        ]
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
