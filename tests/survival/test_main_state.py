"""What the globals of a script, and the attributes of its classes, are in workers: the parent's, as
they were when the task was submitted, and what code in that worker has made of them since.

Workers do not run the script; under `fork` they have inherited what it had run before.
"""

from __future__ import annotations

from functools import partial

import pytest

import andon
from tests.support import run_python

TOP = """\
import andon, contextvars, functools, gc, sys, threading, typing, weakref
from dataclasses import dataclass
METHOD = {method!r}
"""

INITIALIZED = """\
CONN, STATE = None, {}
class Config:
    path, seen = None, []
def init():
    global CONN
    CONN = "open"
    STATE["db"] = Config.path = "here"
    Config.seen.append(1)
def named():
    return CONN, STATE, Config.path, Config.seen
with andon.Pool(1, init, start_method=METHOD) as pool:
    calls = named, lambda: (CONN, STATE, Config.path, Config.seen), named
    for call in calls:
        assert pool.apply(call) == ("open", {"db": "here"}, "here", [1]), pool.apply(call)
    pool.apply(lambda: STATE.update(a=1))
    pool.apply(lambda config: config.seen.append(2), (Config(),))
    assert pool.apply(lambda config: config.seen, (Config(),)) == [1, 2]
    assert pool.apply(lambda: (len(STATE), Config.path)) == (2, "here")
"""

TO_AND_FRO = """\
class A:
    number = 0
    many = []
    def of(self):
        return self.number, self.many
with andon.Pool(1, start_method=METHOD) as pool:
    N, LIST, a = 0, [], A()  # (a fork has inherited no number and no list)
    for step in (0, 1, 2, 0, 1, 1, 0):
        odd = step or type("Odd", (), {})()  # (which plain pickle cannot take)
        assert pool.apply(lambda: type(odd).__name__) == type(odd).__name__
        N, A.number, LIST[:], A.many[:] = step, step, [step], [step]
        now = step, [step]
        assert pool.apply(lambda: (N, LIST)) == now
        if METHOD != "fork":  # there the class is inherited, and goes by name
            assert pool.apply(lambda: (A.number, A.many)) == now
            assert pool.apply(lambda a: a.of(), (a,)) == now
            assert pool.apply(a.of) == now
"""

TWO_POOLS = """\
seen, hook = [], len
class Hook:
    def __init__(self):
        import threading
        self.lock = threading.Lock()
    def __call__(self, x):
        return "called"
def init():
    seen.append("init")
with andon.Pool(1, start_method=METHOD) as pool:
    assert pool.apply(lambda: hook("1")) == 1
    seen.append("parent")
    assert pool.apply(lambda: list(seen)) == ["parent"]
if METHOD == "fork":  # what the next ones inherit is not sent to them, though others were
    hook = Hook()
with andon.Pool(1, init, start_method=METHOD) as pool:
    assert pool.apply(lambda: hook("1")) == hook("1")
    assert pool.apply(lambda: list(seen)) == ["parent", "init"], pool.apply(lambda: list(seen))
"""

PUT_BACK = """\
class Client:
    def __init__(self):
        self.lock = threading.Lock()
    def __call__(self):
        return "real"
real, settings = Client(), ["a"]
client = real
with andon.Pool(1, start_method=METHOD) as pool:
    inherited = METHOD == "fork"  # else nothing travels that has a lock
    for client in (real, lambda: "mock", real, real, lambda: "mock", real) * inherited:
        assert pool.apply(lambda: client()) == client()
    for settings[:] in ("a", "b", "a"):
        assert pool.apply(lambda: settings + ["c"]) == [*settings, "c"]
        pool.apply(lambda: settings.append("there"))
"""

CALLABLES = """\
class Model:
    weight = None
    def __call__(self):
        return self.weight
def load():
    model.weight = 1
def by_name():
    return model()
model, gone = Model(), Model()
ref, was_there = weakref.ref(model), weakref.ref(gone)
with andon.Pool(1, start_method=METHOD, initializer=load) as pool:
    found = [pool.apply(each) for each in (by_name, lambda: model(), by_name)]
    assert found == [1, 1, 1], found
    if METHOD == "fork":  # which need not travel
        assert pool.apply(lambda: ref() is not None)
    del gone
    gc.collect()
    assert was_there() is None, "an open pool keeps it"
"""

REDEFINED = """\
def f():
    return "old"
class C:
    said = "old"
before, old = f, C()
with andon.Pool(1, start_method=METHOD) as pool:
    def f():
        return "new"
    class C:
        said = "new"
    assert pool.apply(lambda: (f(), C.said)) == ("new", "new")
    assert pool.apply(before) == "old" and pool.apply(f) == "new"
    assert pool.apply(lambda c: c.said, (old,)) == "old"
    assert pool.apply(lambda c: c.said, (C(),)) == "new"
"""

INDIRECT = """\
def step(x):
    return x + 1
class Model:
    def predict(self, x):
        return step(x)
model, table, part = Model(), {"step": step}, functools.partial(step)
def work(x):
    return model.predict(x), table["step"](x), part(x), step.__name__
def scaled():
    return step.scale
def scaled_more():
    return 10 * step.scale
with andon.Pool(1, start_method=METHOD) as pool:
    if METHOD != "fork":
        assert pool.apply(work, (1,)) == (2, 2, 2, "step")
    def step(x):
        return x * 100
    class Model:
        def predict(self, x):
            return step(x)
    model, table, part = Model(), {"step": step}, functools.partial(step)
    assert pool.apply(lambda x: work(x), (1,)) == work(1) or METHOD == "fork"
    assert pool.apply(lambda x: (model.predict(x), table["step"](x), part(x)), (1,)) == (100,) * 3
    if METHOD != "fork":
        def limited(x, limits=[1, 10]):
            return min(max(x, limits[0]), limits[1]) * limited.scale
        limited.again = limited
        def factored():
            factor = 1
            def times(x):
                return x * factor
            def set_factor(to):
                nonlocal factor
                factor = to
            return times, set_factor
        times, set_factor = factored()
        class Conf:
            hook = functools.partial(limited)
        table = {"limited": limited, "times": times}
        def tabled(x):
            return table["limited"](x), Conf.hook(x), table["times"](x), times(x)
        for highest, limited.scale in ((10, 1), (20, 1), (20, 3), (10, 1), (10, 2)):
            limited.__defaults__[0][1] = highest
            set_factor(highest)
            assert pool.apply(tabled, (99,)) == tabled(99), (highest, tabled(99))
        library = {}  # of its decorator's functions, these are the globals
        exec("decorated = lambda fn: lambda x: (fn(x), level)", library)
        decorated = functools.wraps(step)(library["decorated"](step))
        for library["level"] in (1, 2):
            assert pool.apply(lambda: decorated(1)) == decorated(1)
        for scale in (1, 2, 1):
            step.scale = scale
            assert [pool.apply(scaled), pool.apply(scaled_more)] == [scale, 10 * scale]
            step.scale = 3
            assert pool.apply(scaled_more) == 30
"""

IN_PLACE = """\
class Index:
    def __init__(self, words):
        self.words = list(words)
    @classmethod
    def of(cls, words):
        return cls(words)
    def __reduce__(self):
        return Index.of, (self.words,)
index = Index(["a"])
def add(word):
    index.words.append(word)
    return index.words
with andon.Pool(1, start_method=METHOD) as pool:
    assert pool.apply(add, ("b",)) == ["a", "b"]
    for words in (["a", "b", "c"], ["a", "b", "c", "d"]):
        assert pool.apply(add, (words[-1],)) == words, words
    if METHOD != "fork":  # one that uses it, too, and a change of the program's own
        assert pool.apply(lambda: index.words) == ["a", "b", "c", "d"]
        index.words.append("here")
        assert pool.apply(lambda: index.words) == ["a", "here"]
"""

FUNCTIONS_STATE = """\
def helper():
    helper.calls += 1
    return helper.calls
helper.calls = 0
def remembering():
    memo = {}
    def get(x):
        memo[x] = memo.get(x, 0) + 1
        return memo[x]
    return get
get = remembering()
class Model:
    def count(self):
        Model.count.calls += 1
        return Model.count.calls
    count.calls = 0
table = [helper, get]
def one(_):
    return helper(), get(1), Model().count(), table[0] is helper, table[1] is get
def two(_):
    return helper(), get(1), Model().count(), table[0] is helper, table[1] is get
with andon.Pool(1, start_method=METHOD) as pool:
    for number, call in enumerate((one, one, two, one, two), 1):
        got = pool.apply(call, (0,))
        assert got == (number, number, number, True, True), (number, got)
    if METHOD != "fork":
        assert pool.apply(lambda: (helper(), get(1))) == (6, 6)
        helper.calls = 10
        assert pool.apply(lambda: (helper(), get(1))) == (11, 7)
        def helper():
            helper.calls += 1
            return helper.calls
        helper.calls = 10
        assert pool.apply(lambda: (helper(), get(1))) == (11, 8)
"""

KINDS = """\
@dataclass(slots=True)
class Point:
    x: int
class Pair(typing.NamedTuple):
    a: int
    b: int
class Private:
    __slots__ = ("__x", "y")
    def __init__(self):
        self.__x, self.y = 1, 2
    def x(self):
        return self.__x
class Lazy:
    def __init__(self, number):
        self.number = number
    @functools.cached_property
    def double(self):
        return 2 * self.number
@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
Name = typing.NewType("Name", str)
P = typing.ParamSpec("P")
def greet(name: Name) -> Name:
    return Name("to " + name)
def calls(fn: typing.Callable[P, int]) -> typing.Callable[P, int]:
    return fn
def private(p):
    return p.x(), p.y, p
with andon.Pool(1, start_method=METHOD) as pool:
    assert pool.map(lambda x: Point(x), [1, 2]) == [Point(1), Point(2)]
    assert not hasattr(pool.apply(lambda p: p, (Point(3),)), "__dict__")
    assert pool.map(lambda p: Pair(p.b, p.a), [Pair(1, 2)]) == [Pair(2, 1)]
    *seen, back = pool.apply(private, (Private(),))
    assert seen == [1, 2] and type(back) is Private and back.x() == 1
    assert pool.map(fib, [10, 20]) == [55, 6765]
    assert pool.apply(lambda: fib.cache_info().currsize) > 10
    assert pool.apply(greet, ("Ann",)) == "to Ann"
    assert pool.apply(lambda: calls(abs)(-1)) == 1
    assert pool.apply(lambda lazy: (lazy.double, lazy.double), (Lazy(4),)) == (8, 8)
"""

VARIABLES = """\
import multiprocessing.pool
single = contextvars.ContextVar("single", default="unset")
listed = [contextvars.ContextVar("listed", default="unset")]
class Config:
    inner = contextvars.ContextVar("inner", default="unset")
given = [single, listed[0], Config.inner]
def read():
    return [single.get(), listed[0].get(), Config.inner.get()]
with andon.TaskGroup(workers=1, start_method=METHOD, contextvars=given) as tg:
    for variable in given:
        variable.set("set")
    named, local = tg.submit(read), tg.submit(lambda: read())
assert named.result() == local.result() == ["set"] * 3, (named.result(), local.result())
"""


@pytest.mark.parametrize(
    "program",
    [
        INITIALIZED,
        TO_AND_FRO,
        TWO_POOLS,
        PUT_BACK,
        CALLABLES,
        REDEFINED,
        INDIRECT,
        IN_PLACE,
        FUNCTIONS_STATE,
        KINDS,
        VARIABLES,
    ],
)
def test_S28_what_a_scripts_tasks_find(start_method: str, program: str) -> None:
    done = run_python(["-c", TOP.replace("{method!r}", repr(start_method)) + program])
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_tasks_of_a_worker_share_no_callable_that_has_state(start_method: str) -> None:
    """As with the standard pools, each has the object as it was submitted."""
    with andon.Pool(1, start_method=start_method) as pool:
        got = [pool.apply(partial(put, []), (i,)) for i in range(3)]
        assert got == [[0], [1], [2]]
        counter = Counter()
        assert [pool.apply(counter) for _ in range(2)] == [1, 1]
        assert [pool.apply(counter.count) for _ in range(2)] == [1, 1]
        table = {"a": 1}
        get = table.get
        assert pool.apply(get, ("b",)) is None
        table["b"] = 2
        assert pool.apply(get, ("b",)) == 2


class Counter:
    def __init__(self) -> None:
        self.counted = 0

    def __call__(self) -> int:
        return self.count()

    def count(self) -> int:
        self.counted += 1
        return self.counted


def put(into: list[int], number: int) -> list[int]:
    into.append(number)
    return into
