"""Bad arguments: one clear error that names argument and value, before any process starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from functools import partial
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

import andon
from tests.facades.tasks import square


async def coroutine() -> None: ...


def generator() -> Any:
    yield 1


class Awaited:
    async def __call__(self, item: int) -> int:
        return item


class Yields:
    def __call__(self, item: int) -> Any:
        yield item


class YieldsLater:
    async def __call__(self, item: int) -> Any:
        yield item


SURFACES: list[Callable[..., Any]] = [
    lambda **kw: andon.map(square, [1], **kw),
    lambda **kw: andon.imap(square, [1], **kw),
    lambda **kw: andon.TaskGroup(**kw).__enter__(),
    lambda **kw: andon.Pool(**kw),
    lambda **kw: andon.ProcessPoolExecutor(**kw),
]


@pytest.mark.parametrize("surface", SURFACES, ids=["map", "imap", "TaskGroup", "Pool", "Executor"])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("workers", 0, ValueError),
        ("workers", -1, ValueError),
        ("workers", 1.5, TypeError),
        ("workers", True, TypeError),
        ("timeout", -1, ValueError),
        ("timeout", 0, ValueError),
        ("timeout", "1", TypeError),
        ("deadline", -0.1, ValueError),
        ("deadline", float("nan"), ValueError),
        ("grace", -1, ValueError),
        ("kill_after", float("inf"), ValueError),
        ("start_method", "thread", ValueError),
        ("mp_context", 3, TypeError),
        ("mp_context", "frk", ValueError),
        ("max_tasks_per_worker", 0, ValueError),
        ("initializer", 3, TypeError),
        ("initializer", generator, TypeError),
        ("initargs", 3, TypeError),
        ("policy", 3, TypeError),
        ("token", "stop", TypeError),
        ("engine", "gpu", ValueError),
        ("env", {"A": 1}, TypeError),
        ("env", "A=1", TypeError),
        ("env", {"A=B": "1"}, ValueError),
        ("env", {"A": "\0"}, ValueError),
        ("contextvars", ["request"], TypeError),
        ("contextvars", ContextVar("request"), TypeError),
    ],
)
def test_one_clear_error(
    surface: Callable[..., Any], name: str, value: Any, error: type[Exception]
) -> None:
    before = psutil.Process().children()
    with pytest.raises(error) as caught:
        surface(**{name: value})
    assert name.replace("_", " ") in str(caught.value).replace("_", " ")
    assert getattr(value, "__name__", repr(value)) in str(caught.value)
    assert psutil.Process().children() == before


class NoInput:
    __iter__ = None


BAD_MAPS: list[tuple[str, Any, str, type[Exception]]] = [
    ("items", 5, "the items must be iterable, not 5", TypeError),
    ("items", list, "the items must be iterable, not <class 'list'>", TypeError),
    ("items", NoInput(), "the items must be iterable", TypeError),
    ("more", 5, "the items must be iterable, not 5", TypeError),
    ("chunksize", 0, "chunksize must be greater than 0, not 0", ValueError),
    ("chunksize", 1.5, "chunksize must be a whole number, not 1.5", TypeError),
    ("buffersize", 0, "buffersize must be greater than 0, not 0", ValueError),
    ("progress", "yes", "progress must be True, a callable or a reporter, not 'yes'", TypeError),
]


def opened(**kw: Any) -> andon.TaskGroup:
    return andon.TaskGroup(**kw).__enter__()


MAPS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "map": (andon.map, {"items", "more", "chunksize", "buffersize", "progress"}),
    "imap": (andon.imap, {"items", "more", "chunksize", "buffersize", "progress"}),
    "TaskGroup": (lambda fn, items, **kw: opened(**kw), {"progress"}),
    "Pool.map": (andon.Pool.map, {"items", "chunksize"}),
    "Pool.starmap": (andon.Pool.starmap, {"items", "chunksize"}),
    "Pool.map_async": (andon.Pool.map_async, {"items", "chunksize"}),
    "Pool.imap": (andon.Pool.imap, {"items", "chunksize", "buffersize"}),
    "Pool.imap_unordered": (andon.Pool.imap_unordered, {"items", "chunksize", "buffersize"}),
    "TaskGroup.map": (andon.TaskGroup.map, {"items", "more", "chunksize", "buffersize"}),
    "TaskGroup.imap": (andon.TaskGroup.imap, {"items", "more", "chunksize", "buffersize"}),
    "Executor.map": (
        andon.ProcessPoolExecutor.map,
        {"items", "more", "chunksize", "buffersize"},
    ),
}


@pytest.mark.parametrize(
    ("surface", "name", "value", "words", "error"),
    [(surface, *bad) for surface, (_, has) in MAPS.items() for bad in BAD_MAPS if bad[0] in has],
)
def test_a_map_that_cannot_be(
    surface: str, name: str, value: Any, words: str, error: type[Exception], start_method: str
) -> None:
    call = MAPS[surface][0]
    items: Any = [1, 2]
    more: list[Any] = []
    options: dict[str, Any] = {}
    if name == "items":
        items = value
    elif name == "more":
        more = [value]
    else:
        options[name] = value
    kind = surface.partition(".")[0]
    with ExitStack() as stack:
        if kind == "TaskGroup" and kind != surface:
            call = partial(call, stack.enter_context(andon.TaskGroup(start_method=start_method)))
        elif kind == "Pool":
            call = partial(call, stack.enter_context(andon.Pool(1, engine="inline")))
        elif kind == "Executor":
            executor = andon.ProcessPoolExecutor(1, start_method=start_method)
            call = partial(call, stack.enter_context(executor))
        else:
            options["start_method"] = start_method
        before = psutil.Process().children()
        with pytest.raises(error) as caught:
            call(square, items, *more, **options)
        assert str(caught.value).startswith(words)
        assert not hasattr(caught.value, "__notes__"), "it is of no group"
        assert psutil.Process().children() == before


@pytest.mark.parametrize(("name", "value", "words", "error"), BAD_MAPS[:-1])
def test_a_map_under_asyncio_that_cannot_be(
    name: str, value: Any, words: str, error: type[Exception]
) -> None:
    async def several() -> Any:
        yield 1

    async def main() -> None:
        async with andon.aio.TaskGroup(engine="inline") as tg:
            for items in ([1], several()):
                more = [value] if name == "more" else []
                options = {name: value} if name.endswith("size") else {}
                if name == "items":
                    more, items = [items], value
                for call in (tg.map, tg.imap):
                    with pytest.raises(error) as caught:
                        call(square, items, *more, **options)
                    assert str(caught.value).startswith(words)

    asyncio.run(main())


def test_arguments_of_no_initializer() -> None:
    for surface in SURFACES[:3]:
        with pytest.raises(TypeError, match="initargs must be a tuple of arguments, not 'abc'"):
            surface(initializer=square, initargs="abc")
        with pytest.raises(ValueError, match="without an initializer"):
            surface(initargs=(1,))
    for drop_in in SURFACES[3:]:  # the standard ones pass them over
        with drop_in(initargs=(1,), engine="inline"):
            pass


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (3, "not 3"),
        (coroutine, "coroutine function"),
        (partial(coroutine), "coroutine function"),
        (generator, "generator function"),
        (Awaited(), r"Awaited\.__call__ is a coroutine function"),
        (partial(Awaited()), r"Awaited\.__call__ is a coroutine function"),
        (Yields(), r"Yields\.__call__ is a generator function"),
        (YieldsLater(), r"YieldsLater\.__call__ is a coroutine function"),
    ],
)
def test_what_cannot_be_a_task(fn: Any, words: str) -> None:
    with andon.TaskGroup(workers=1) as tg:
        for submit in (tg.submit, partial(tg.map, items := [1]) and (lambda f: tg.map(f, items))):
            with pytest.raises(TypeError, match=words):
                submit(fn)
    with pytest.raises(TypeError, match=words):
        andon.map(fn, [1])
    assert tg.stats.submitted == 0
    with andon.Pool(1, engine="inline") as pool, pytest.raises(TypeError, match=words):
        pool.apply_async(fn)
    with (
        andon.ProcessPoolExecutor(1, engine="inline") as executor,
        pytest.raises(TypeError, match=words),
    ):
        executor.submit(fn)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"args": 5}, "args must be a tuple of arguments, not 5"),
        ({"args": (1,), "kwds": [1]}, r"kwds must be a dict of arguments by name, not \[1\]"),
        ({"args": (1,), "callback": 5}, "callback must be a function of one argument, not 5"),
        ({"args": (1,), "error_callback": 5}, "error_callback must be a function of one"),
    ],
)
def test_a_call_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with andon.Pool(1, engine="inline") as pool:
        with pytest.raises(TypeError, match=words):
            pool.apply_async(square, **options)
        assert pool.apply_async(square, (2,), callback=False, error_callback=0).get() == 4
        if "callback" in words:
            with pytest.raises(TypeError, match=words):
                pool.map_async(square, [1], **{k: v for k, v in options.items() if k != "args"})


def test_an_error_of_the_arguments_own_is_none_of_ours() -> None:
    with andon.Pool(1, engine="inline") as pool, pytest.raises(TypeError, match="int\\(\\)"):
        pool.apply(square, (int(None) for _ in range(1)))  # type: ignore[call-overload]


def test_two_policies_are_named() -> None:
    for policy, name in (
        (andon.collect_all(), r"andon\.collect_all\(\)"),
        (andon.fail_fast(), r"andon\.fail_fast\(\)"),
        (andon.fail_fast("soon"), r"andon\.fail_fast\(halt='soon'\)"),
    ):
        with pytest.raises(ValueError, match=f"policy={name}"):
            andon.ProcessPoolExecutor(1, fail_fast=True, policy=policy)


@pytest.mark.parametrize("fn", [Awaited, Mock(return_value=4)])
def test_what_is_made_of_other_callables_is_their_affair(fn: Any) -> None:
    with andon.TaskGroup(engine="inline") as tg:
        tg.submit(fn)
    assert tg.verdict == "ok"


def test_a_group_on_a_pool_takes_the_pools_workers() -> None:
    with andon.Pool(1, engine="inline") as pool:
        with pytest.raises(ValueError, match="give workers to the pool"):
            andon.TaskGroup(pool=pool, workers=2)
    with pytest.raises(TypeError, match="pool must be"):
        andon.TaskGroup(pool=3)  # type: ignore[arg-type]


def test_a_group_is_used_once() -> None:
    with andon.TaskGroup(engine="inline") as tg:
        pass
    with pytest.raises(RuntimeError, match="used once"):
        tg.__enter__()
    with pytest.raises(RuntimeError, match="enter the group"):
        andon.TaskGroup().submit(square, 1)


def test_cancelled_cannot_be_made_by_users() -> None:
    with pytest.raises(TypeError, match="current_token"):
        andon.Cancelled("mine")


@pytest.mark.parametrize("reason", [None, ValueError("why"), b"why"])
def test_the_reason_of_a_stop_is_a_string(reason: Any) -> None:
    words = "the reason must be a str, not " + type(reason).__name__
    with andon.TaskGroup(engine="inline") as tg:
        with pytest.raises(TypeError, match=words):
            tg.cancel(reason)
        assert tg.submit(square, 3).result() == 9, "nothing has happened"
    with pytest.raises(TypeError, match=words):
        andon.Event().cancel(reason)

    async def main() -> int:
        async with andon.aio.TaskGroup(engine="inline") as tg:
            with pytest.raises(TypeError, match=words):
                tg.cancel(reason)
            return await tg.submit(square, 3)

    assert asyncio.run(main()) == 9


def depth_after_a_shield_of(seconds: float) -> tuple[int, bool]:
    from andon._worker.state import current

    with andon.shield(seconds):
        held = current.shielded()
    return current.shield_depth, held


@pytest.mark.parametrize("seconds", [1e9, 1.9e10, 1e300])
def test_S18_a_shield_of_any_length(seconds: float) -> None:
    assert andon.map(depth_after_a_shield_of, [seconds], workers=1) == [(0, True)]


def test_a_group_is_entered_as_it_says() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"there is andon\.aio\.TaskGroup"):
            async with andon.TaskGroup(engine="inline"):  # type: ignore[attr-defined]
                pass
        with pytest.raises(TypeError, match="entered by `async with`"):
            with andon.aio.TaskGroup(engine="inline"):  # type: ignore[attr-defined]
                pass
        async with andon.aio.TaskGroup(engine="inline") as tg:
            results = tg.map(square, [3])
            with pytest.raises(TypeError, match="iterated by `async for`"):
                for _ in results:  # type: ignore[attr-defined]
                    pass
            assert [each async for each in results] == [9]

    asyncio.run(main())


def test_an_event_is_not_cleared() -> None:
    event = andon.Event()
    with pytest.raises(AttributeError, match="stays set: make a new one"):
        event.clear()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Token' object has no attribute 'claer'"):
        event.claer()  # type: ignore[attr-defined]
    assert not hasattr(event, "clear") and not event.is_set()
