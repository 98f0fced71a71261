"""What a worker tells of an error, and the parent shows, is what the interpreter would print."""

from __future__ import annotations

import importlib
import linecache
import marshal
import traceback
import zipfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

from andon import _traceback
from andon._traceback import show, tell

WHERE = "def f():\n    raise ValueError('here')\n"


def plain() -> None:
    raise ValueError("plain")


def deep(n: int = 20) -> None:
    if n:
        deep(n - 1)
    raise KeyError("déjà", {"ü": 1}["ü"] + None)  # type: ignore[operator]


def endless() -> None:
    endless()


def misspelt() -> None:
    misspell = 1  # noqa: F841
    return mispell  # type: ignore[name-defined]  # noqa: F821


def noted() -> None:
    error = RuntimeError("with\nlines")
    error.add_note("a note")
    raise error


def suppressed() -> None:
    try:
        plain()
    except ValueError:
        raise LookupError from None


def chained() -> None:
    try:
        plain()
    except ValueError as error:
        raise LookupError("second") from error


def in_context() -> None:
    try:
        plain()
    except ValueError:
        deep()


def grouped() -> None:
    raise ExceptionGroup("several", [ValueError(1), KeyError(2)])


def wrong_syntax() -> None:
    compile("1 +", "<given>", "exec")


def compiled() -> None:
    exec(compile("def f():\n    1 / 0\nf()", "<given>", "exec"), {})


@pytest.mark.parametrize(
    ("function", "at_once"),
    [
        (plain, False),
        (deep, False),
        (noted, False),
        (misspelt, True),
        (suppressed, False),
        (compiled, False),
        (endless, True),
        (chained, True),
        (in_context, True),
        (grouped, True),
        (wrong_syntax, True),
    ],
)
def test_it_is_what_the_interpreter_prints(function: Callable[[], Any], at_once: bool) -> None:
    story, expected = told(function)
    assert isinstance(story, str) is at_once
    assert show(marshal.loads(marshal.dumps(story))) == expected


def test_what_only_the_worker_can_read_is_told_at_once(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(WHERE, "<made by a worker>", "exec"), names)
    linecache.cache["<made by a worker>"] = (len(WHERE), None, WHERE.splitlines(True), "")
    try:
        story, expected = told(names["f"])
    finally:
        del linecache.cache["<made by a worker>"]
    assert story == expected and "raise ValueError('here')" in expected
    exec(compile(WHERE, str(tmp_path / "archive.zip/module.py"), "exec"), names)
    story, expected = told(names["f"])
    assert story == expected


def test_where_a_module_comes_from_tells_who_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from_file.py").write_text(WHERE)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("from_zip.py", WHERE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "archive.zip")
    story, _ = told(importlib.import_module("from_file").f, check=False)
    assert isinstance(story, tuple) and "raise ValueError('here')" in show(story)
    story, expected = told(importlib.import_module("from_zip").f)
    assert story == expected and "raise ValueError('here')" in expected


def test_a_module_speaks_for_no_source_but_its_own(tmp_path: Path) -> None:
    """And globals of a class of one's own are not asked at all."""

    class Globals(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise RuntimeError("nobody should ask")

    made = str(tmp_path / "generated.py")
    loader = {"__loader__": SourceFileLoader("generator", __file__), "__file__": __file__}
    linecache.cache[made] = (len(WHERE), None, WHERE.splitlines(True), made)
    try:
        for names in (loader, Globals()):
            exec(compile(WHERE, made, "exec"), names)
            story, expected = told(names["f"])
            assert story == expected and "raise ValueError('here')" in expected
    finally:
        del linecache.cache[made]


def test_frames_at_its_start_can_be_left_out() -> None:
    story, _ = told(plain, (__file__,))
    assert show(story) == "ValueError: plain\n"


def test_it_never_raises() -> None:
    class Hostile(Exception):
        @property
        def __notes__(self) -> Any:
            raise SystemExit("from a note")

    def fail() -> None:
        raise Hostile("x")

    story, _ = told(fail, check=False)
    assert "Hostile: x" in show(story)


def test_the_frames_of_an_error_whose_attributes_raise() -> None:
    class Closed(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit(f"no {name}")

    def fail() -> None:
        raise Closed("x")

    shown = show(told(fail, check=False)[0])
    assert "in fail\n" in shown and "Closed: x" in shown and "SystemExit: no" in shown


def test_the_sources_are_read_when_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linecache, "getline", None)
    monkeypatch.setattr(linecache, "getlines", None)
    monkeypatch.setattr(linecache, "updatecache", None)
    story, _ = told(plain, check=False)
    assert isinstance(story, tuple) and len(story[0]) == 2


def told(
    function: Callable[[], Any], skip: tuple[str, ...] = (), check: bool = True
) -> tuple[_traceback.Story, str]:
    try:
        function()
    except BaseException as error:
        expected = "".join(traceback.format_exception(error)) if check else ""
        return tell(error, skip), expected
    raise AssertionError("it did not raise")
