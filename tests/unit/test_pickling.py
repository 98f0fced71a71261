"""How objects travel: plain where they can, by value where they must, by name under `fork`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from andon._blame import explain
from andon._pickling import dumps, loads, take_main
from andon._words import describe, short, type_name
from tests.support import run_python


def plain(x: int) -> int:
    return x + 1


@pytest.fixture
def main() -> Iterator[ModuleType]:
    """A `__main__` of a program, with a class and a function in it."""
    before = sys.modules["__main__"]
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(
        "class Point:\n"
        "    class Inner: pass\n"
        "    def __init__(self, x): self.x = x\n"
        "FACTOR = 3\n"
        "def scale(p): return Point(p.x * FACTOR)\n",
        vars(module),
    )
    yield module
    sys.modules["__main__"] = before


def test_what_plain_pickle_can_goes_plain() -> None:
    for obj in (plain, [1, "two", {3: 4.0}], ValueError("x"), print):
        assert dumps(obj) == pickle.dumps(obj, 5)


def test_lambdas_and_closures() -> None:
    y = 10

    def add(x: int) -> int:
        return x + y

    assert loads(dumps(add))(1) == 11
    assert loads(dumps({"f": lambda x: x * y}))["f"](2) == 20


def test_what_belongs_to_main_goes_by_value(main: ModuleType) -> None:
    point = main.Point(2)
    data = dumps((main.scale, point))
    del main.Point, main.scale
    scale, arrived = loads(data)
    assert type(arrived) is type(point), "in the process that has the class, it is its own"
    assert scale(arrived).x == 6


def test_by_value_there_and_back_between_processes() -> None:
    """A worker with an empty `__main__` runs the program's function; the instance that comes back
    is one of the program's own class, whose attributes are as they were."""
    source = """
import subprocess, sys
from andon._pickling import dumps, loads
class Point:
    hits = 0
    def __init__(self, x): self.x = x
def scale(p): return Point(p.x * 3)
child = (
    "import sys, types; from andon._pickling import dumps, loads\\n"
    "sys.modules['__main__'] = types.ModuleType('__main__')\\n"
    "fn, arg = loads(sys.stdin.buffer.read())\\n"
    "class Own: pass\\n"
    "Own.__module__ = '__main__'\\n"
    "both = fn(arg), Own()\\n"
    "for _ in range(2): data = dumps(both, homeward=True)\\n"
    "sys.stdout.buffer.write(data)\\n"
)
data = dumps((scale, Point(2)))
Point.hits = 5
done = subprocess.run([sys.executable, "-c", child], input=data, capture_output=True, check=True)
back, own = loads(done.stdout)
assert type(own).__name__ == "Own"
print(type(back) is Point, back.x, Point.hits)
"""
    done = run_python(["-c", source])
    assert (done.stdout, done.stderr) == ("True 6 5\n", "")


def test_what_was_inherited_goes_by_name(main: ModuleType) -> None:
    inherited: dict[str, Any] = {}
    take_main(inherited)
    for obj in (main.scale, main.Point, main.Point.Inner):
        data = dumps(obj, inherited)
        assert len(data) < 100 and loads(data) is obj
    arrived = loads(dumps([main.Point(1)], inherited))[0]
    assert type(arrived) is main.Point


def test_what_was_made_after_the_fork_goes_by_value(main: ModuleType) -> None:
    inherited: dict[str, Any] = {}
    take_main(inherited)
    exec("def later(): return FACTOR\ndef scale(p): return 'another'", vars(main))
    for obj, value in ((main.later(), 3), (main.scale(0), "another")):
        assert obj == value
    for name in ("later", "scale"):
        data = dumps(getattr(main, name), inherited)
        delattr(main, name)
        assert callable(loads(data))


def test_a_string_that_names_main_is_only_slow() -> None:
    assert loads(dumps("__main__")) == "__main__"


# Errors -----------------------------------------------------------------------------------------


explain_all = partial(explain, caught=BaseException)  # as in a worker


class Refuses:
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.name = "x"

    def __reduce__(self) -> Any:
        raise self.error


def deep() -> list[Any]:
    top: list[Any] = []
    for _ in range(100_000):
        top = [top]
    return top


def test_explain_names_a_function_once_and_says_the_way_out() -> None:
    def uses() -> Any:
        return LOCK

    message, named, _ = explain(TypeError("no"), "the function", [("the function 'f'", uses)])
    assert named == "the function 'f', which uses the global 'LOCK' (a _thread.lock)"
    assert message == (
        f"cannot pickle {named}: TypeError: no; make one in each worker, in an `initializer`"
    )
    whole = Refuses(ValueError("x"))
    assert explain(TypeError("no"), "the function", [("the function 'f'", whole)])[1].startswith(
        "the function 'f'"
    )
    shared = multiprocessing.Lock()
    assert explain(TypeError("no"), "it", [("x", shared)])[0].endswith(
        "; pass it in `initargs`, to an `initializer` that keeps it"
    )
    assert explain(TypeError("no"), "it", [("initargs[0]", shared)])[0].endswith(
        "; make it by `multiprocessing.get_context(...)` of the pool's start method"
    )
    for flag in (threading.Event(), multiprocessing.Event()):
        message, named, _ = explain(TypeError("no"), "it", [("args[0]", [flag])])
        assert named.startswith("it: args[0][0] (a ") and named.endswith(".Event)")
        assert message.endswith("; use an `andon.Event()`, which travels wherever it is put")
    with open(os.devnull, "w", encoding="utf-8") as file:
        assert explain(TypeError("no"), "it", [("args[0]", file)])[0].endswith(
            "; pass its path, and open it in the task"
        )


@pytest.mark.parametrize(
    ("parts", "culprit"),
    [
        ([("args[0]", 1), ("args[1]", threading.Lock())], "args[1] (a _thread.lock)"),
        ([("args[0]", {"a": [threading.Lock()]})], "args[0]['a'][0] (a _thread.lock)"),
        ([("path", {1: Refuses(ValueError("x"))})], "path[1]"),
        ([("fn", lambda: sys.stdin and LOCK)], "fn, which uses the global"),
        ([("args[0]", 1)], "the arguments"),
    ],
)
def test_explain_names_the_culprit(parts: list[tuple[str, Any]], culprit: str) -> None:
    message, named, original = explain(TypeError("no"), "the arguments", parts)
    assert culprit in named and named in message
    assert original == "TypeError: no"


LOCK = threading.Lock()


def test_explain_descends_into_fields_and_closures() -> None:
    lock = threading.Lock()

    def uses() -> Any:
        return lock

    class Holder:
        def __init__(self) -> None:
            self.fine = 1
            self.held = lock

    assert "fn, which uses 'lock'" in explain(TypeError(), "it", [("fn", uses)])[1]
    assert "obj.held" in explain(TypeError(), "it", [("obj", Holder())])[1]


@pytest.mark.parametrize(
    "obj", [deep(), Refuses(RuntimeError("x")), Refuses(SystemExit(1)), Refuses(RecursionError())]
)
def test_every_kind_of_error_is_explained(obj: Any) -> None:
    with pytest.raises(BaseException) as caught:
        dumps(obj)
    assert "the result" in explain_all(caught.value, "the result", [("result", obj)])[0]


@pytest.mark.parametrize("wrapped", [False, True])
def test_S31_ctrl_c_ends_the_search_for_the_culprit(wrapped: bool) -> None:
    obj = Refuses(KeyboardInterrupt())  # pressed while this is tried alone
    with pytest.raises(KeyboardInterrupt):
        explain(TypeError("no"), "the arguments", [("args[0]", [obj] if wrapped else obj)])


class Shy:
    """It cannot be pickled, nor asked for anything that it does not have."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __reduce__(self) -> Any:
        raise TypeError("no")


class Empty(dict[str, Any]):
    """Nobody looks into it."""

    def items(self) -> Any:
        raise SystemExit("no items")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no")


class Elsewhere(type):
    """Of classes that do not say what they are called."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


class Nameless(Shy, metaclass=Elsewhere):
    pass


class Classless(Shy):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError


@pytest.mark.parametrize("kind", [Shy, Empty, Nameless, Classless])
def test_S28_an_object_that_does_not_answer_is_named_all_the_same(kind: Any) -> None:
    original = TypeError("no")
    name = type.__dict__["__qualname__"].__get__(kind)
    named = explain_all(original, "the result", [("result", kind())])[1]
    assert named.startswith("the result: result (a ") and named.endswith(f"{name})")
    named = explain_all(original, "the arguments", [("args[0]", 1), ("args[1]", [kind()])])[1]
    assert named.startswith("the arguments: args[1][0] (a ") and named.endswith(f"{name})")


name = other = threading.Lock()


def test_S28_an_attribute_is_not_taken_for_a_global() -> None:
    def uses(x: Any) -> Any:
        return x.name, other

    def within(x: Any) -> Any:
        return [lambda: (x.name, other)]

    for fn in (uses, within):
        assert "uses the global 'other'" in explain(TypeError(), "it", [("fn", fn)])[1]


class Unsayable(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")

    __repr__ = __str__


def test_texts_never_raise() -> None:
    assert describe(Unsayable("a")).startswith(type_name(Unsayable()))
    assert "repr raises" in short(Unsayable())
    assert describe(ValueError()) == "ValueError"
    assert describe(KeyError("k")) == "KeyError: 'k'"
    assert len(short("x" * 1000)) == 60
