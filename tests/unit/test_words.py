"""Words for any error: the quick way says what the long way does, and asks nobody else's code."""

from __future__ import annotations

import builtins
import copyreg
import pickle
from typing import Any

import pytest

from andon._words import BARE, LONGEST, is_bare, is_plain, message_of, say, short, type_name
from andon.outcome import Outcome, Reason, ReasonKind, TaskState

BUILTIN = [
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, BaseException)
]


@pytest.mark.parametrize("args", [(), ("text",), ("",), (7,), ("a", "b")], ids=repr)
def test_the_quick_way_says_what_the_long_way_does(args: tuple[Any, ...]) -> None:
    said = 0
    for kind in BUILTIN:
        try:
            error = kind(*args)
        except (TypeError, ValueError):
            continue  # it wants others
        assert say(error) == (type_name(error), message_of(error))
        said += 1
    assert said > 40


class Loud(str):
    def __str__(self) -> str:
        raise RuntimeError("asked")


class Odd(type):
    def __hash__(self) -> int:
        raise RuntimeError("asked")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("asked")


class OddError(ValueError, metaclass=Odd):
    pass


class OwnWords(ValueError):
    def __str__(self) -> str:
        return "my own"


def test_whatever_its_class_or_argument_does() -> None:
    name, text = say(ValueError(Loud("loud")))
    assert (name, type(text)) == ("ValueError", str)
    assert say(OddError("odd"))[1] == "odd"
    assert say(OwnWords("not these"))[1] == "my own"


class Refuses:
    def __get__(self, error: object, kind: type) -> Any:
        if error is None:
            raise SystemExit("of errors only")
        return lambda: "well"


class OddWords(ValueError):
    __str__ = Refuses()  # type: ignore[assignment]


class ByRepr(ValueError):
    __str__ = object.__str__


def test_which_errors_are_soon_said() -> None:
    mine = type("Mine", (ValueError,), {})
    assert all(map(is_plain, (ValueError(), ValueError("x"), mine("x"))))
    own = OwnWords("own"), KeyError("k"), OddWords("odd"), ByRepr("repr")
    some = ValueError(1), ValueError("x", [1]), ValueError(Loud("loud"))
    assert not any(map(is_plain, (*own, *some)))


def with_more() -> ValueError:
    error = ValueError("more")
    error.code = 7  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError(), ValueError(1), ValueError("a", "b"), ValueError(Loud("loud")), with_more()),
        *(ValueError("long" * LONGEST), OwnWords("own"), OddError("odd"), KeyError("k")),
        *(OSError("os"), NameError("name", name="n"), SystemExit("exit"), StopIteration("stop")),
    ],
    ids=short,
)
def test_what_is_more_than_a_type_and_a_message(error: BaseException) -> None:
    assert not is_bare(error)


@pytest.mark.parametrize("kind", BARE.values())
def test_an_error_that_is_its_type_and_message(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = kind("größer\udc80")
    assert is_bare(error)
    name, message = say(error)
    made, pickled = BARE[name](message), pickle.loads(pickle.dumps(error))
    assert (type(made), made.args, vars(made)) == (type(pickled), pickled.args, vars(pickled))
    monkeypatch.setitem(copyreg.dispatch_table, kind, lambda error: (kind, ("its own way",)))
    assert not is_bare(error)


def test_a_reason_is_one_line() -> None:
    def text(message: str) -> str:
        return str(Reason(ReasonKind.FAILURE, message, 3, 0.0))

    assert text("ValueError: x") == "failure: ValueError: x (task 3)"
    assert text("Multi: one\ntwo") == "failure: Multi: one… (task 3)"
    assert text("\ntwo") == "failure: … (task 3)"
    assert text("") == "failure (task 3)"
    assert len(text("x" * 5000)) < 400


def test_an_outcome_is_shown_shortly() -> None:
    outcome = Outcome(3, TaskState.SUCCEEDED, "x" * 10_000, arguments="f('a')")
    shown = repr(outcome)
    assert shown.startswith("Outcome(index=3, state=<TaskState.SUCCEEDED: 'succeeded'>, value='xxx")
    assert "…, error=None" in shown and shown.endswith("stack=None, cleanup_error=None)")
    assert len(shown) < 500
