"""The house has floors, and imports go downwards only. Here is the list of them.

A module may import from its own floor and from those below. Going *around* is forbidden as well:
through the package `andon` itself, whose lazy names lead everywhere, and in circles.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import run_python
from tests.unit.imports import SOURCE, Import, cycles, imports, modules

# From the roof down. A name stands for a file or a folder of src/andon.
FLOORS: list[set[str]] = [
    {"__main__"},
    {"cli", "joblib", "testing"},
    {
        "_async_result",
        "_grouping",
        "_results",
        "aio",
        "context",
        "executor",
        "mapping",
        "pool",
        "taskgroup",
    },
    {"report"},
    {"_runtime"},
    {"_engines"},
    {"_core"},
    {"errors", "outcome", "policy", "retry", "task", "token"},
    {"_worker"},
    {
        "_blame",
        "_board",
        "_buffers",
        "_by_value",
        "_cancelled",
        "_complaint",
        "_gate",
        "_locks",
        "_multiprocessing",
        "_of_main",
        "_pickling",
        "_plain",
        "_record",
        "_stamps",
        "_threads",
        "_traceback",
        "_variables",
        "_wire",
        "_words",
    },
]
HEIGHT = {unit: len(FLOORS) - depth for depth, floor in enumerate(FLOORS) for unit in floor}
ROOF = len(FLOORS) + 1
TOP = HEIGHT["cli"]  # from here up, one may use andon as users do

# The machine decides, it never does; and it has no clock, no chance, no neighbours.
IMPURE = {
    "multiprocessing", "os", "pickle", "random", "select", "signal", "socket", "subprocess",
    "threading", "time",
}  # fmt: skip
CORE_MAY_IMPORT = {"_core", "_record", "_words", "errors", "outcome", "policy", "retry"}


def unit(module: str) -> str:
    """The file or folder of src/andon that a module belongs to; empty for the package itself."""
    return [*module.split("."), ""][1]


def inside(arrows: list[Import]) -> list[Import]:
    return [arrow for arrow in arrows if arrow.what.split(".")[0] == "andon"]


def arrows_up(arrows: list[Import]) -> list[str]:
    """What breaks the rule of the floors."""
    wrong = []
    for arrow in inside(arrows):
        here = ROOF if arrow.where == "andon" else HEIGHT[unit(arrow.where)]
        if arrow.what == "andon":
            if here < TOP:
                wrong.append(f"{arrow} itself (around): name the module that it needs")
        elif unit(arrow.what) not in HEIGHT:
            wrong.append(f"{arrow}, which is no module of andon")
        elif HEIGHT[unit(arrow.what)] > here:
            wrong.append(f"{arrow} (up)")
    return wrong


@pytest.fixture(scope="module")
def graph() -> list[Import]:
    return imports()


def test_every_module_has_a_floor() -> None:
    homeless = {unit(name) for name in modules()} - set(HEIGHT) - {""}
    assert not homeless, "give these a floor in FLOORS"


def test_imports_go_downwards(graph: list[Import]) -> None:
    assert arrows_up(graph) == []


def test_imports_do_not_go_in_circles(graph: list[Import]) -> None:
    # The package itself may name all that it offers, lazily; that closes no circle.
    assert cycles([a for a in inside(graph) if "andon" not in (a.where, a.what)]) == []


def test_the_package_itself_imports_none_of_its_modules_eagerly() -> None:
    """A worker imports `andon._worker`, and with it `andon`: this must cost nothing."""
    source = "import sys, andon; print([name for name in sys.modules if name[:6] == 'andon.'])"
    done = run_python(["-c", source])
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_core_is_pure(graph: list[Import]) -> None:
    core = [arrow for arrow in graph if unit(arrow.where) == "_core"]
    assert core
    assert [str(arrow) for arrow in core if arrow.what.split(".")[0] in IMPURE] == []
    strange = [arrow for arrow in inside(core) if unit(arrow.what) not in CORE_MAY_IMPORT]
    assert [str(arrow) for arrow in strange] == []


def test_only_declared_dependencies_are_imported(graph: list[Import]) -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {re.split(r"\W", each)[0] for each in project["dependencies"] + extras["joblib"]}
    foreign = [
        arrow
        for arrow in graph
        if arrow.what.split(".")[0] not in {"andon", *sys.stdlib_module_names, *declared}
    ]
    assert [str(arrow) for arrow in foreign] == []


# The reader itself ------------------------------------------------------------------------------


def write(top: Path, **files: str) -> list[Import]:
    for name, source in files.items():
        path = top.joinpath("andon", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (top / "andon" / "__init__.py").touch()
    return imports(top)


@pytest.mark.parametrize(
    "source",
    [
        "import andon._runtime.driver",
        "from andon._runtime import driver",
        "from andon._runtime.driver import Driver",
        "from .._runtime import driver",
        "from ..  import _runtime",
        "def f():\n    if x:\n        from andon import _runtime",
        "import importlib\ndef f(): return importlib.import_module('andon._runtime')",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING: pass\nelse: import andon._runtime",
    ],
)
def test_an_arrow_up_is_found(tmp_path: Path, source: str) -> None:
    graph = write(tmp_path, _core__machine=source, _runtime__driver="")
    assert len(arrows_up(graph)) == 1
    assert "_core.machine:" in arrows_up(graph)[0]
    assert "andon._runtime" in arrows_up(graph)[0]


def test_an_arrow_around_is_found(tmp_path: Path) -> None:
    graph = write(tmp_path, _runtime__driver="from andon import Pool", cli__run="import andon")
    assert ["(around)" in wrong and "_runtime" in wrong for wrong in arrows_up(graph)] == [True]


def test_an_arrow_for_type_checkers_is_none(tmp_path: Path) -> None:
    source = "import typing\nif typing.TYPE_CHECKING:\n    from andon.pool import Pool\n"
    graph = write(tmp_path, _core__machine=source, pool="from andon._core import machine")
    assert arrows_up(graph) == []
    assert cycles(graph) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        _core__a="from andon._core import b",
        _core__b="def f(): from andon._core.c import x",
        _core__c="from . import a",
        _core__d="from andon._core import a",
    )
    assert cycles(graph) == [["andon._core.a", "andon._core.b", "andon._core.c"]]


@pytest.mark.parametrize("package", ["_buffers", "_engines/local", "_runtime", "_worker"])
def test_a_packages_map_names_every_file(package: str) -> None:
    folder = SOURCE / "andon" / package
    story = (folder / "__init__.py").read_text(encoding="utf-8")
    named = re.findall(r"^ +(\w+\.py) ", story, re.MULTILINE)
    assert sorted(named) == sorted(f.name for f in folder.glob("*.py") if f.name != "__init__.py")
