"""How objects travel between the parent and its workers, both ways (S28).

Plain pickle first, which is fast. What it cannot take (lambdas, closures), and what belongs to
`__main__`, goes by value through cloudpickle: workers never run the user's `__main__` again. On
the way home, a class that came by value goes back by the number that cloudpickle gave it: so its
instances are instances of the parent's own class, and that class stays as it is. Under `fork` a
worker has inherited `__main__`, and programs rely on its globals: there, whatever is the very
object that was inherited travels by name.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any, Protocol

from andon import _multiprocessing

PROTOCOL = 5
_TRIES = 500  # members tried alone, at most, to find the one to blame
_DEPTH = 8
# What `__main__` is called in a child of `multiprocessing`, which imports it under this name.
_MP_MAIN = "__mp_main__"
_MAINS = ("__main__", _MP_MAIN)
_OF_MAIN = b"_main__"  # of both names
_GLOBAL = pickle.STACK_GLOBAL[0]  # a byte of every pickle that names something: soon looked for

loads = pickle.loads


class Apart(Protocol):
    """Takes buffers that shall not be in the pickle, as pickle's `buffer_callback`."""

    def __call__(self, buffer: pickle.PickleBuffer, /) -> object:
        """True where this one shall be after all."""

    def __len__(self) -> int:
        """How many it has taken."""

    def clear(self) -> None:
        """Forget them: the pickle is made once more."""


def dumps(
    obj: Any,
    main_by_reference: Mapping[str, Any] | None = None,
    *,
    homeward: bool = False,
    plainly: bool = True,
    apart: Apart | None = None,
) -> bytes:
    """Pickle an object; raises whatever the object's own pickling raises.

    `main_by_reference` holds the globals of `__main__` that the other side has inherited.
    `homeward`: from a worker to its parent. `plainly`: may plain pickle be tried?
    """
    if plainly:
        plain = plain_dumps(obj, apart)
        if plain is not None:
            return plain
    if apart is not None:
        apart.clear()
    data = _dumps_by_value(obj, main_by_reference, homeward, apart)
    if _multiprocessing.MARK in data and not homeward:
        if apart:  # unpickled alone, by a pickle around it. What was handed over, is so once
            apart.clear()
            data = _dumps_by_value(obj, main_by_reference, homeward, None)
        data = _multiprocessing.with_key(data)
    return data


def plain_dumps(obj: Any, apart: Apart | None = None) -> bytes | None:
    """What plain pickle makes of it; None where that will not do."""
    try:
        data = pickle.dumps(obj, PROTOCOL, buffer_callback=apart)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return data if _GLOBAL not in data or not is_special(data) else None


def is_special(data: bytes) -> bool:
    """Does this pickle, or piece of one, name what does not travel by plain pickle?"""
    # `in` would take twice as long.
    return data.find(_OF_MAIN) >= 0 or data.find(_multiprocessing.MARK) >= 0


def main_globals() -> dict[str, Any]:
    """The globals of `__main__` as they are now: taken where a fork will hand them down."""
    return dict(vars(sys.modules["__main__"]))


def explain(
    error: BaseException,
    what: str,
    parts: Iterable[tuple[str, Any]],
    main_by_reference: Mapping[str, Any] | None = None,
) -> tuple[str, str, str]:
    """Why these could not be pickled: (message, the object's name, the text of the error).

    `what` names the whole ("the arguments"); each of `parts`, named as the user knows it
    (`args[0]`), is tried alone, and so are the members of the first that fails.
    """
    original = describe(error)
    tries = [_TRIES]
    for name, part in parts:
        if _fails(part, main_by_reference, tries):
            path, culprit = _descend(name, part, main_by_reference, tries)
            named = f"{what}: {path} ({_kind(culprit)})"
            return f"cannot pickle {named}: {original}", named, original
    return f"cannot pickle {what}: {original}", what, original


def describe(error: BaseException) -> str:
    """`Type: message`, whatever the error's own `__str__` does."""
    name = type_name(error)
    text = message_of(error)
    return f"{name}: {text}" if text else name


def type_name(error: BaseException) -> str:
    """The error's type, with its module where that says something."""
    kind = type(error)
    module = getattr(kind, "__module__", "")
    name = str(getattr(kind, "__qualname__", kind.__name__))
    return str.__str__(name if module in ("builtins", *_MAINS) else f"{module}.{name}")


def message_of(error: BaseException) -> str:
    """`str(error)`, or a remark where that raises."""
    try:
        return str.__str__(str(error))  # which may be of a class of its own, and then cannot travel
    except BaseException:
        return f"<its __str__ raises; arguments: {short(getattr(error, 'args', ()))}>"


def short(obj: Any, limit: int = 60) -> str:
    """A `repr` that never raises and is never long."""
    try:
        text = repr(obj)
    except BaseException:
        text = f"<{type(obj).__qualname__}, whose repr raises>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


# By value ----------------------------------------------------------------------------------------


def _dumps_by_value(
    obj: Any, main: Mapping[str, Any] | None, homeward: bool, apart: Apart | None
) -> bytes:
    with io.BytesIO() as file:
        _pickler_class()(file, main, homeward, apart).dump(obj)
        return file.getvalue()


_Pickler: Any = None
_made_here: set[str] = set()  # numbers of classes that this process was the first to pickle


def _pickler_class() -> Any:
    """cloudpickle's pickler with our rules for classes; loaded when first needed (15 ms)."""
    global _Pickler
    if _Pickler is None:
        import cloudpickle

        from andon import _variables

        if _MP_MAIN in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[_MP_MAIN])

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
            def __init__(
                self,
                file: io.BytesIO,
                main: Mapping[str, Any] | None,
                homeward: bool,
                apart: Apart | None,
            ) -> None:
                super().__init__(file, protocol=PROTOCOL, buffer_callback=apart)
                self._main = main
                self._homeward = homeward

            def reducer_override(self, obj: Any) -> Any:
                if not isinstance(obj, FunctionType | type):
                    if type(obj) is _variables.ContextVar:
                        return _variables.reduce(obj)
                    if isinstance(obj, CodeType):
                        return self._code(obj)
                    reduced = _multiprocessing.reduce(obj)
                    if reduced is not NotImplemented:
                        return reduced
                    return super().reducer_override(obj)
                if self._main is not None:
                    name = _inherited_name(obj, self._main)
                    if name is not None:
                        return main_attribute, (name,)
                if isinstance(obj, FunctionType):
                    return self._function(obj)
                number = _numbers().get(obj)
                if number is not None and self._homeward and number not in _made_here:
                    return numbered_class, (number,)
                reduced = super().reducer_override(obj)
                if number is None and (made := _numbers().get(obj)) is not None:
                    _made_here.add(made)
                return reduced

            def _code(self, code: CodeType) -> Any:
                # cloudpickle 3.1.2 and newer leave out the file: tracebacks, warnings and log
                # records would show no line of it.
                make, args = self.dispatch_table[CodeType](code)
                name = code.co_filename
                return make, tuple(name if arg == "<dynamic-code>" else arg for arg in args)

            def _function(self, fn: FunctionType) -> Any:
                reduced = super().reducer_override(fn)
                if reduced is NotImplemented or self._homeward or not _has_globals_of_main(fn):
                    return reduced
                # All functions of one program share one set of globals in a worker, as they do
                # here: an initializer may set what the tasks read.
                make, (code, _, *rest), state, *_ = reduced
                setter = set_function_state
                if self._main is not None:
                    # The other side has inherited the rest, and its own code may have changed it.
                    used, setter = state[1]["__globals__"], set_function_state_forked
                    changed = {k: v for k, v in used.items() if self._main.get(k, self) is not v}
                    state[1]["__globals__"] = changed
                return make, (code, _MAIN, *rest), state, None, None, setter

        _Pickler = Pickler
    return _Pickler


def _has_globals_of_main(fn: FunctionType) -> bool:
    # A child of `multiprocessing` has run it elsewhere, and put a copy there.
    found = fn.__globals__
    return found is vars(sys.modules["__main__"]) or found.get("__name__") == _MP_MAIN


class _Main:
    def __reduce__(self) -> tuple[Any, ...]:
        return main_namespace, ()


_MAIN = _Main()
_shipped: dict[str, Any] = {}  # what the parent gave to our `__main__`, as it came


def main_namespace() -> dict[str, Any]:
    """The globals of `__main__` on the other side."""
    return vars(sys.modules["__main__"])


def set_function_state(fn: FunctionType, state: Any) -> None:
    """A function of `__main__` arrives with the globals that it uses.

    A newer value replaces one that came earlier (a redefined function in a notebook), but not one
    that code in this worker has set.
    """
    _set_function_state(fn, state, _shipped.keys())


def set_function_state_forked(fn: FunctionType, state: Any) -> None:
    """The same where `__main__` was inherited: only what the parent changed since has come."""
    _set_function_state(fn, state, fn.__globals__.keys())


def _set_function_state(fn: FunctionType, state: Any, theirs: Iterable[str]) -> None:
    import cloudpickle.cloudpickle

    mine, slots = fn.__globals__, state[1]
    fresh = {
        name: value
        for name, value in slots["__globals__"].items()
        if name not in mine
        or (name in theirs and mine[name] is _shipped.get(name, mine[name]))
    }
    _shipped.update(fresh)
    slots["__globals__"] = fresh
    cloudpickle.cloudpickle._function_setstate(fn, state)


def _numbers() -> Mapping[type, str]:
    """The numbers of the classes that have travelled by value. cloudpickle keeps them private;
    should they move, classes come back by value, and overwrite the attributes of our own."""
    return getattr(sys.modules["cloudpickle.cloudpickle"], "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})


def numbered_class(number: str) -> type:
    """The class that left this process under that number."""
    import cloudpickle.cloudpickle

    found: type | None = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)
    if found is None:
        raise pickle.UnpicklingError(
            "the class of this object, which was sent to the worker by value, is gone: keep it "
            "until its instances are back, or define it in a module"
        )
    return found


def _inherited_name(obj: Any, main: Mapping[str, Any]) -> str | None:
    """Its name in `__main__`, where it is the very object that was inherited under it."""
    if getattr(obj, "__module__", None) not in _MAINS:
        return None
    name = getattr(obj, "__qualname__", None)
    if not isinstance(name, str) or not name:
        return None
    first, *rest = name.split(".")
    found = main.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return name if found is obj else None


def main_attribute(name: str) -> Any:
    """The other end of a journey by name."""
    found: Any = sys.modules["__main__"]
    for part in name.split("."):
        found = getattr(found, part)
    return found


# Whom to blame -----------------------------------------------------------------------------------


def _fails(obj: Any, main: Mapping[str, Any] | None, tries: list[int]) -> bool:
    tries[0] -= 1
    if tries[0] < 0:
        return False
    try:
        dumps(obj, main)
    except BaseException:  # a `__reduce__` may raise SystemExit as well
        return True
    return False


def _descend(
    path: str, obj: Any, main: Mapping[str, Any] | None, tries: list[int]
) -> tuple[str, Any]:
    """Follow the members that fail alone; what fails with none of them failing is to blame."""
    for _ in range(_DEPTH):
        for label, member in _members(obj):
            if member is not obj and _fails(member, main, tries):
                path, obj = path + label, member
                break
        else:
            break
    return path, obj


def _members(obj: Any) -> Iterator[tuple[str, Any]]:
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
        for name in obj.__code__.co_names:
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


def _kind(obj: Any) -> str:
    kind = type(obj)
    name = getattr(obj, "__qualname__", None)
    if isinstance(obj, FunctionType) and isinstance(name, str):
        return f"the function {name!r}"
    return f"a {kind.__module__}.{kind.__qualname__}"


if hasattr(os, "register_at_fork"):
    # What the parent has made, a forked child has received.
    os.register_at_fork(after_in_child=_made_here.clear)
