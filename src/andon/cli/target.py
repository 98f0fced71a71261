"""What a run calls: a function found by name, or a shell command.

Everything that can be wrong with a target is found here, in the parent, before any process starts.

How a function of a file reaches the workers: where the file can be imported under its own name (its
directory goes to the front of `sys.path`, as `python file.py` would do) it simply *is* that module,
and pickles by name. Where it cannot (`my-script.py`, or a name that something else already has), a
`FileFunction` travels instead, and each worker loads the file once.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from andon._runtime.options import called_by
from andon.cli.arguments import UsageError
from andon.cli.quoting import wrong_place

_QUALNAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_FILE = re.compile(rf"(?P<file>.+\.py):(?P<name>{_QUALNAME})", re.DOTALL)
_MODULE = re.compile(rf"(?P<module>{_QUALNAME}):(?P<name>{_QUALNAME})")
_SPACE = re.compile(r"\s")  # a command may well end like a function of a file
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")


def load(target: str) -> Callable[[str], Any]:
    """What to call with each item; `UsageError` where there is nothing to call."""
    in_file = _FILE.fullmatch(target)
    if in_file and (os.path.isfile(in_file["file"]) or not _SPACE.search(target)):
        return _checked(target, _from_file(in_file["file"], in_file["name"]))
    in_module = _MODULE.fullmatch(target)
    if in_module:
        return _checked(target, _from_module(in_module["module"], in_module["name"]))
    return _from_shell(target)


@dataclass(frozen=True, slots=True)
class FileFunction:
    """A function of a file that cannot be imported under its own name."""

    path: str
    name: str

    def __call__(self, item: str) -> Any:
        return _attribute(_load_file(self.path), self.name)(item)


def _from_module(module_name: str, name: str) -> Callable[[str], Any]:
    # As `python -m` does; the installed command has its own directory there instead.
    _first_on_path(_absolute("."))
    with _Imports(module_name):
        module = importlib.import_module(module_name)
    return _found(module, name, module_name)


def _from_file(file: str, name: str) -> Callable[[str], Any]:
    path = _absolute(file)
    if not os.path.isfile(path):
        raise UsageError(f"no such file: {file}")
    directory, base = os.path.split(path)
    stem = base.removesuffix(".py")
    _first_on_path(directory)
    if _importable_as(stem, path):
        with _Imports(file):
            module = importlib.import_module(stem)
        return _found(module, name, file)
    with _Imports(file):
        module = _load_file(path)
    function = _found(module, name, file)
    _checked(f"{file}:{name}", function)
    return FileFunction(path, name)


def _importable_as(stem: str, path: str) -> bool:
    if not stem.isidentifier() or stem in sys.modules or stem in sys.builtin_module_names:
        return False
    try:
        spec = importlib.util.find_spec(stem)
    except (ImportError, ValueError):
        return False
    # What is frozen into Python has an origin that is no file.
    if spec is None or spec.origin is None or not spec.has_location:
        return False
    return os.path.samefile(spec.origin, path)


def _load_file(path: str) -> ModuleType:
    """The module of a file, under a name of its own; once per process."""
    stem = re.sub(r"\W", "_", os.path.basename(path).removesuffix(".py"))
    name = f"_andon_target_{stem}"
    module = sys.modules.get(name)
    if module is not None and module.__file__ == path:
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    # Known before it runs, as an import does it: dataclasses and pickle look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError as error:  # the directory that we are in has been removed
        raise UsageError(f"no current directory: {error.strerror}") from None


def _first_on_path(directory: str) -> None:
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)


class _Imports:
    """Around an import of the user's code: whatever it raises is bad usage, told in one line."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        importlib.invalidate_caches()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, KeyboardInterrupt):
            return
        said = traceback.format_exception_only(type(error), error)[-1].strip()
        where = ""
        frames = traceback.extract_tb(error.__traceback__)
        if frames and not isinstance(error, SyntaxError):
            last = frames[-1]
            if not last.filename.startswith("<") and last.filename != __file__:
                where = f" ({last.filename}, line {last.lineno})"
        elif isinstance(error, SyntaxError):
            where = f" ({error.filename}, line {error.lineno})"
        raise UsageError(f"cannot import {self._what}: {said}{where}") from None


def _attribute(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _found(module: ModuleType, name: str, where: str) -> Callable[[str], Any]:
    try:
        found = _attribute(module, name)
    except AttributeError as error:
        raise UsageError(f"{where} has no {name!r} ({error})") from None
    if not callable(found):
        raise UsageError(f"{where}:{name} is not callable: it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _checked(target: str, function: Callable[[str], Any]) -> Callable[[str], Any]:
    what = None
    for each in called_by(function):
        if inspect.iscoroutinefunction(each):
            what = "a coroutine function"
        elif inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            what = "a generator function"
    if what is not None:
        raise UsageError(f"{target} is {what}; a task must be a plain function")
    return function


def _from_shell(target: str) -> Callable[[str], Any]:
    # `andon run work.py a b` and `andon run package.work a b` lack their function. The shell would
    # only say "not found", once per item.
    looks_python = target.endswith(".py") or _DOTTED.fullmatch(target)
    if looks_python and " " not in target and shutil.which(target) is None:
        raise UsageError(
            f"{target} is neither a command nor a function; a function is written {target}:function"
        )
    given = "{}" in target
    where = wrong_place(target if given else f"{target} {{}}")
    if where is not None:
        what = "{} stands" if given else "the item, which comes last, would stand"
        quotes = given and "quotes" in where
        way_out = "leave the quotes away" if quotes else "put {} where a plain word may stand"
        raise UsageError(f"{what} {where}: {target}; {way_out}, an item is quoted already")
    if sys.platform == "win32":
        raise UsageError("shell commands need a POSIX system; use package.module:function")
    else:
        from andon.cli.command import ShellCommand, user_shell

        return ShellCommand(target, user_shell())
