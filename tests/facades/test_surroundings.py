"""Environment variables of a pool, context variables of a task."""

from __future__ import annotations

import contextvars
import os
from contextvars import ContextVar
from typing import Any

import pytest

import andon
from tests.facades.surrounded import (
    Tenant,
    context,
    environment,
    note_environment,
    request,
    set_and_tell,
)
from tests.support import run_python

ADDED, CHANGED, REMOVED = "ANDON_TEST_ADDED", "ANDON_TEST_CHANGED", "ANDON_TEST_REMOVED"
ENV = {ADDED: "new", CHANGED: "theirs", REMOVED: None}


def test_a_pool_has_an_environment_of_its_own(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHANGED, "ours")
    monkeypatch.setenv(REMOVED, "ours")
    names = (ADDED, CHANGED, REMOVED)
    wanted = ["new", "theirs", None]
    with andon.Pool(
        1, note_environment, names, start_method=start_method, env=ENV
    ) as pool, andon.Pool(1, start_method=start_method) as plain:
        at_import, at_start, now = pool.apply(environment, names)
        assert (at_start, now) == (wanted, wanted)
        if start_method != "fork":  # there it had been imported before
            assert at_import == "new"
        assert plain.apply(environment, names)[2] == [None, "ours", "ours"]
    assert [os.environ.get(name) for name in names] == [None, "ours", "ours"]


def test_every_surface_takes_an_environment() -> None:
    with andon.TaskGroup(workers=1, env=ENV) as tg:
        future = tg.submit(environment, ADDED)
    assert future.result()[2] == ["new"]
    assert andon.map(environment, [ADDED], workers=1, env=ENV)[0][2] == ["new"]
    assert next(andon.imap(environment, [ADDED], workers=1, env=ENV))[2] == ["new"]
    with andon.ProcessPoolExecutor(1, env=ENV) as ex:
        assert ex.submit(environment, ADDED).result()[2] == ["new"]
        with pytest.raises(ValueError, match="give env to the pool"):
            andon.TaskGroup(pool=ex, env=ENV)


def test_chosen_variables_travel_as_they_are_at_the_submission(start_method: str) -> None:
    def run() -> list[Any]:
        request.set("first")
        Tenant.name.set("a tenant")
        with andon.Pool(
            1, start_method=start_method, contextvars=[request, Tenant.name]
        ) as pool:
            later = pool.imap(context, [1])
            request.set("second")
            return [list(later), pool.apply(context), pool.map(context, [2, 3]),
                    pool.map_async(context, [4]).get(), pool.starmap(context, [(5,)])]

    assert contextvars.copy_context().run(run) == [
        [(1, "first", "a tenant")],
        (0, "second", "a tenant"),
        [(2, "second", "a tenant"), (3, "second", "a tenant")],
        [(4, "second", "a tenant")],
        [(5, "second", "a tenant")],
    ]


def test_every_surface_takes_variables() -> None:
    def run() -> list[str]:
        request.set("ours")
        chosen = [request]
        with andon.TaskGroup(workers=1, contextvars=chosen) as tg:
            future = tg.submit(context)
        got = [future.result()]
        got += andon.map(context, [0], workers=1, contextvars=chosen)
        got += andon.imap(context, iter([0]), workers=1, contextvars=chosen)
        got += andon.map(context, [0], engine="inline", contextvars=chosen)
        with andon.ProcessPoolExecutor(1, contextvars=chosen) as ex:
            got.append(ex.submit(context).result())
            got += ex.map(context, [0])
            Tenant.name.set("its own")
            with andon.TaskGroup(pool=ex, contextvars=[Tenant.name]) as tg:
                future = tg.submit(context)
            assert future.result() == (0, "ours", "its own")
        return [request for _, request, _ in got]

    assert contextvars.copy_context().run(run) == ["ours"] * 6


def test_a_value_is_gone_with_its_task() -> None:
    def run() -> tuple[str, str]:
        request.set("mine")
        with andon.ProcessPoolExecutor(1, contextvars=[request]) as ex:
            return ex.submit(set_and_tell, "left over").result(), ex.submit(context).result()[1]

    assert contextvars.copy_context().run(run) == ("mine", "mine")
    with andon.ProcessPoolExecutor(1, start_method="spawn") as ex:
        assert ex.submit(context).result()[1] == "nobody's"


class Mute(type):
    """Its classes answer nothing."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Hidden(metaclass=Mute):
    """It stands among the modules' globals, where variables are looked for."""


def test_a_variable_is_looked_for_past_classes_that_answer_nothing() -> None:
    var: ContextVar[Any] = ContextVar("nowhere to be found")
    var.set(1)
    with andon.Pool(1, contextvars=[var]) as pool:
        assert pool.apply(lambda: var.get()) == 1


def test_a_value_that_cannot_travel_is_an_error_of_the_submission() -> None:
    var: ContextVar[Any] = ContextVar("unpicklable")
    var.set(_ for _ in ())
    with andon.Pool(1, contextvars=[var]) as pool:
        with pytest.raises(andon.SerializationError, match=r"context\[0\].*generator"):
            pool.apply(context)


def test_variables_of_a_script(start_method: str) -> None:
    """They have no module that a worker would import."""
    source = f"""
import andon
from contextvars import ContextVar

class Holder:
    inner = ContextVar("inner", default="unset")

outer = ContextVar("outer")

def look(_):
    return outer.get("unset"), Holder.inner.get()

def same(_):
    return outer

outer.set("set here")
print(andon.map(look, [0], workers=1, start_method={start_method!r}, contextvars=[outer]))
print(andon.map(same, [0], workers=1, start_method={start_method!r})[0] is outer)
"""
    done = run_python(["-c", source])
    assert (done.stdout, done.stderr) == ("[('set here', 'unset')]\nTrue\n", "")
