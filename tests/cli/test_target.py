"""What to call: found, or refused before anything starts."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from andon.cli.arguments import UsageError
from andon.cli.command import ShellCommand
from andon.cli.target import FileFunction, load

SOURCE = """
import dataclasses, functools
@dataclasses.dataclass
class Point:
    x: str
    def twice(self): ...
    @staticmethod
    def shout(item): return item.upper()
def f(item): return item * 2
def make(item): return Point(item)
async def waits(item): ...
def many(item): yield item
class Fetch:
    async def __call__(self, item): ...
fetch = Fetch()
part = functools.partial(fetch)
number = 3
"""


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The current directory is a fresh one; what is imported in it is forgotten."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("andon."):
            del sys.modules[name]


def write(name: str, source: str = SOURCE) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


def test_a_function_of_a_module_in_this_directory() -> None:
    write("mod_a.py")
    assert load("mod_a:f")("x") == "xx"
    assert load("mod_a:Point.shout")("x") == "X"


def test_a_function_of_a_package() -> None:
    write("pack_a/__init__.py", "")
    write("pack_a/inner.py")
    assert load("pack_a.inner:f")("x") == "xx"


def test_a_function_of_an_installed_module() -> None:
    assert load("os.path:basename")("a/b") == "b"


def test_a_file_is_the_module_of_its_name() -> None:
    write("sub/mod_b.py")
    function = load("sub/mod_b.py:f")
    assert function is sys.modules["mod_b"].f
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", ["my-script.py", "2024.py", "json.py", "__hello__.py", "a b.py"])
def test_a_file_that_cannot_be_imported_by_its_name(name: str) -> None:
    write(name)
    import json

    function = load(f"./{name}:f")
    assert isinstance(function, FileFunction)
    assert function("x") == "xx"
    assert pickle.loads(pickle.dumps(function))("y") == "yy"
    point = load(f"./{name}:make")("x")
    assert pickle.loads(pickle.dumps(point)) == point
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.py:f", "no such file: nowhere.py"),
        ("no_such_module_x:f", "cannot import no_such_module_x: ModuleNotFoundError"),
        ("mod_c.py:g", "mod_c.py has no 'g'"),
        ("mod_c:g", "mod_c has no 'g'"),
        ("mod_c:number", "mod_c:number is not callable: it is of type int"),
        ("mod_c.py:waits", "mod_c.py:waits is a coroutine function"),
        ("mod_c.py:fetch", "mod_c.py:fetch is a coroutine function"),
        ("mod_c.py:part", "mod_c.py:part is a coroutine function"),
        ("mod_c:many", "mod_c:many is a generator function"),
        ("broken_c.py:f", "cannot import broken_c.py: SyntaxError"),
        ("raises_c:f", "cannot import raises_c: RuntimeError: not today"),
        ("exits_c.py:f", "cannot import exits_c.py: SystemExit: 0"),
        ("odd-raises.py:f", "cannot import odd-raises.py: RuntimeError: not today"),
        ("odd-raises.py", "a function is written odd-raises.py:function"),
        ("package.work", "a function is written package.work:function"),
    ],
)
def test_what_cannot_be_a_target(target: str, told: str) -> None:
    write("mod_c.py")
    write("broken_c.py", "def f(:\n")
    write("raises_c.py", "x = 1\nraise RuntimeError('not today')\n")
    write("exits_c.py", "raise SystemExit(0)\n")
    write("odd-raises.py", "raise RuntimeError('not today')\n")
    with pytest.raises(UsageError) as caught:
        load(target)
    assert told in str(caught.value)


def test_an_import_error_names_its_place() -> None:
    write("raises_d.py", "x = 1\nraise RuntimeError('not today')\n")
    with pytest.raises(UsageError, match=r"raises_d\.py, line 2\)"):
        load("raises_d:f")


@pytest.mark.parametrize(
    "target",
    ["gzip -t {}", "true", "a:b c", "./run.sh", "http://x/{}", "python -m andon run work.py:f"],
)
def test_everything_else_is_a_shell_command(target: str) -> None:
    command = load(target)
    assert isinstance(command, ShellCommand) and command.template == target


@pytest.mark.parametrize("target", ["os.path:basename", "mod_e.py:f"])
def test_where_there_is_no_current_directory(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="no current directory: No such file or directory"):
        load(target)
