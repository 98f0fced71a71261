"""Whom to blame where something could not be pickled (S28)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import CellType, CodeType, FunctionType
from typing import Any

from andon._pickling import dumps
from andon._words import class_names, describe, short

_OF_ONE_PROCESS = ("_thread.lock", "_thread.RLock", "_queue.SimpleQueue")
_FLAGS = ("threading.Event", "multiprocessing.synchronize.Event")
_TRIES = 500  # members tried alone, at most, to find the one to blame
_DEPTH = 8


def explain(
    error: BaseException,
    what: str,
    parts: Iterable[tuple[str, Any]],
    main_by_reference: Mapping[str, Any] | None = None,
    caught: type[BaseException] = Exception,
    to_worker: bool = True,
) -> tuple[str, str, str]:
    """Why these could not be pickled: (message, the object's name, the text of the error).

    `what` names the whole ("the arguments"); each of `parts`, named as the user knows it
    (`args[0]`; or the whole, by its full name), is tried alone, and so are the members of the first
    that fails. What is not `caught`, such as Ctrl-C, ends the search.
    """
    original = describe(error)
    search = _Search(main_by_reference, caught)
    for name, part in parts:
        if search.fails(part):
            path, culprit = search.descend(name, part)
            named = path if path.startswith(what) else f"{what}: {path}"
            if culprit is not part or path != named:
                named += f" ({_kind(culprit)})"
            message = f"cannot pickle {named}: {original}"
            if to_worker:
                message += _way_out(culprit, handed_down=name.startswith("initargs"))
            return message, named, original
    return f"cannot pickle {what}: {original}", what, original


class _Search:
    def __init__(self, main: Mapping[str, Any] | None, caught: type[BaseException]) -> None:
        self._main = main
        self._caught = caught
        self._tries = _TRIES

    def fails(self, obj: Any) -> bool:
        """Alone; False where enough has been tried."""
        self._tries -= 1
        if self._tries < 0:
            return False
        try:
            dumps(obj, self._main)
        except self._caught:
            return True
        return False

    def descend(self, path: str, obj: Any) -> tuple[str, Any]:
        """Follow the members that fail alone; what fails with none of them failing is to blame, and
        so is what raises when it is asked for them."""
        with suppress(self._caught):
            for _ in range(_DEPTH):
                if class_names(type(obj))[0] in _FLAGS:
                    break  # what it is made of is nobody's business
                for label, member in _members(obj):
                    if member is not obj and self.fails(member):
                        path, obj = path + label, member
                        break
                else:
                    break
        return path, obj


def _members(obj: Any) -> Iterator[tuple[str, Any]]:
    """Runs code of the object's own, which may raise anything."""
    if isinstance(obj, dict):
        for key, value in list(obj.items()):
            yield f"[{short(key)}]", value
            yield f", its key {short(key)}", key
    elif isinstance(obj, list | tuple | set | frozenset):
        for i, value in enumerate(list(obj)):
            yield (f"[{i}]" if isinstance(obj, list | tuple) else f", its element {i}"), value
    elif isinstance(obj, FunctionType):
        cells: tuple[CellType, ...] = obj.__closure__ or ()
        for name, cell in zip(obj.__code__.co_freevars, cells, strict=False):
            try:
                yield f", which uses {name!r}", cell.cell_contents
            except ValueError:
                continue  # not yet bound
        for name in dict.fromkeys(_global_names(obj.__code__)):
            if name in obj.__globals__:
                yield f", which uses the global {name!r}", obj.__globals__[name]
    elif hasattr(obj, "__self__") and hasattr(obj, "__func__"):
        yield ".__self__", obj.__self__
    else:
        try:
            fields = dict(vars(obj))
        except Exception:
            return
        for name, value in fields.items():
            yield f".{name}", value


def _global_names(code: CodeType) -> Iterator[str]:
    """Also of the functions within. (`co_names` has those of attributes, too.)"""
    import dis  # most workers never need it

    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _kind(obj: Any) -> str:
    if type(obj) is FunctionType:
        return f"the function {obj.__qualname__!r}"
    return f"a {class_names(type(obj))[0]}"


def _way_out(culprit: Any, *, handed_down: bool) -> str:
    """For what belongs to one process: how workers come by their own, or by a share of it."""
    kind = class_names(type(culprit))[0]
    if kind in _FLAGS:
        return "; use an `andon.Event()`, which travels wherever it is put"
    if kind == "_multiprocessing.SemLock":  # in all locks, queues and values of `multiprocessing`
        if handed_down:  # it is of another start method than the pool
            return "; make it by `multiprocessing.get_context(...)` of the pool's start method"
        return "; pass it in `initargs`, to an `initializer` that keeps it"
    if kind.startswith("_io."):
        return "; pass its path, and open it in the task"
    if kind.startswith(_OF_ONE_PROCESS):
        return "; make one in each worker, in an `initializer`"
    return ""
