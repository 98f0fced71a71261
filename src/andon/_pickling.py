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
from collections.abc import Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from andon import _multiprocessing, _of_main
from andon._words import MAINS, MP_MAIN

if TYPE_CHECKING:
    from andon._stamps import Imprint

PROTOCOL = 5
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
    imprint: Imprint | None = None,
) -> bytes:
    """Pickle an object; raises whatever the object's own pickling raises.

    `main_by_reference` holds the globals of `__main__` that the other side has inherited.
    `homeward`: from a worker to its parent. `plainly`: may plain pickle be tried? `imprint`: what
    the pickle sets on the other side is noted there.
    """
    if plainly:
        plain = plain_dumps(obj, apart)
        if plain is not None:
            return plain
    if apart is not None:
        apart.clear()
    pickler = _pickler_class()
    try:
        data: bytes = pickler.run(obj, main_by_reference, homeward, apart, imprint)
    except _Whole:
        assert apart is not None
        apart.clear()
        data = pickler.run(obj, main_by_reference, homeward, None, imprint)
    if _multiprocessing.MARK in data and not homeward:
        data = _multiprocessing.with_key(data)
    return data


class _Whole(Exception):
    """There is that in it which is handed over, once, and unpickled by a pickle around this one:
    nothing can be apart."""


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


def take_main(taken: dict[str, Any]) -> None:
    """Note what of `__main__` a fork will hand down: classes and functions, which travel by name;
    how its small data are; and which other callables there are."""
    from andon import _by_value
    from andon._stamps import Inherited, Unchanged

    for name, value in dict(vars(sys.modules["__main__"])).items():
        if is_named(value) or _by_value.is_known(value):
            taken[name] = value
        elif callable(value):
            taken[name] = Inherited(value)
        elif (kept := Unchanged.of(value)) is not None:
            taken[name] = kept


def is_named(obj: Any) -> bool:
    """Is it a function or a class, which has a name to travel by?"""
    kind = type(obj)
    if kind is BuiltinFunctionType:
        return isinstance(obj.__self__, ModuleType)  # else it is a method of an object
    return issubclass(kind, FunctionType | type)


# By value ----------------------------------------------------------------------------------------


def goes_by_value(obj: Any) -> bool:
    """Is this callable likely to? Told by its looks, without pickling it."""
    if isinstance(obj, partial):
        return any(map(goes_by_value, (obj.func, *obj.args, *obj.keywords.values())))
    named = obj if isinstance(obj, FunctionType | MethodType | type) else type(obj)
    # Lambdas, and what is made in a function, have `<lambda>` or `<locals>` in their name.
    return named.__module__ in MAINS or "<" in named.__qualname__


def foresee(fn: Any) -> None:
    """Load here what pickling this callable is likely to want.

    For who leaves that to another thread: an import there may outlast the main thread of a program
    that Ctrl-C ends, and where code is compiled after that, Python forgets what ended the program
    and exits with status 1 (`_Py_UnhandledKeyboardInterrupt`, reset by each `exec` and `eval` of a
    string; named tuples are made by one).
    """
    if goes_by_value(fn):
        _pickler_class()


_Pickler: Any = None
_made_here: set[str] = set()  # numbers of classes that this process was the first to pickle


def _pickler_class() -> Any:
    """cloudpickle's pickler with our rules for classes; loaded when first needed (15 ms)."""
    global _Pickler
    if _Pickler is None:
        import hashlib  # noqa: F401 - for `_stamps.mark`, in this thread (see `foresee`)

        import cloudpickle

        from andon import _by_value, _stamps, _variables

        if MP_MAIN in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[MP_MAIN])

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
            @classmethod
            def run(
                cls,
                obj: Any,
                main: Mapping[str, Any] | None,
                homeward: bool,
                apart: Apart | None,
                imprint: Imprint | None,
            ) -> bytes:
                with io.BytesIO() as file:
                    self = cls(file, protocol=PROTOCOL, buffer_callback=apart)
                    self._main = main
                    self._homeward = homeward
                    self._whole = apart is None or homeward
                    self._imprint = {} if imprint is None else imprint
                    self.dump(obj)
                    data: bytes = file.getvalue()
                return data

            def reducer_override(self, obj: Any) -> Any:
                if not isinstance(obj, FunctionType | type):
                    if type(obj) is _variables.ContextVar:
                        return _variables.reduce(obj)
                    if isinstance(obj, CodeType):
                        return self._code(obj)
                    if not self._whole and _multiprocessing.is_handed_over(obj):
                        raise _Whole
                    reduced = _multiprocessing.reduce(obj)
                    if reduced is not NotImplemented:
                        return reduced
                    reduced = _by_value.reduce(obj)
                    if reduced is None:
                        return super().reducer_override(obj)
                if self._main is not None:
                    name = _inherited_name(obj, self._main)
                    if name is not None:
                        return main_attribute, (name,)
                if isinstance(obj, FunctionType):
                    return self._function(obj)
                if not isinstance(obj, type):
                    return reduced
                number = _numbers().get(obj)
                if number is not None and self._homeward and number not in _made_here:
                    return numbered_class, (number,)
                reduced = super().reducer_override(obj)
                if number is None and (made := _numbers().get(obj)) is not None:
                    _made_here.add(made)
                return self._class(obj, reduced)

            def _class(self, cls: type, reduced: Any) -> Any:
                if type(reduced) is not tuple or reduced[0] is not skeleton:
                    return reduced
                make, args, (attributes, slots), *_ = reduced
                attributes.pop(_of_main.CAME, None)
                args = _by_value.with_slots(cls, args, attributes)
                if self._homeward:
                    return make, args, (attributes, slots), *_
                marks = _stamps.stamp(attributes, self._imprint, cls)
                state = attributes, slots, marks
                return make, args, state, None, None, _of_main.set_class_state

            def _code(self, code: CodeType) -> Any:
                # cloudpickle 3.1.2 and newer leave out the file: tracebacks, warnings and log
                # records would show no line of it.
                make, args = self.dispatch_table[CodeType](code)
                name = code.co_filename
                return make, tuple(name if arg == "<dynamic-code>" else arg for arg in args)

            def _function(self, fn: FunctionType) -> Any:
                reduced = super().reducer_override(fn)
                if reduced is NotImplemented or self._homeward or not _of_main.has_globals(fn):
                    return reduced
                # All functions of one program share one set of globals in a worker, as they do
                # here: an initializer may set what the tasks read.
                make, (code, _, *rest), (own, slots), *_ = reduced
                used = slots["__globals__"]
                if self._main is not None:  # the other side has inherited the rest
                    used = slots["__globals__"] = _unlike_inherited(used, self._main)
                state = own, slots, _stamps.stamp(used, self._imprint)
                return make, (code, _MAIN, *rest), state, None, None, _of_main.set_function_state

        skeleton = cloudpickle.cloudpickle._make_skeleton_class
        _Pickler = Pickler
    return _Pickler


class _Main:
    def __reduce__(self) -> tuple[Any, ...]:
        return main_namespace, ()


_MAIN = _Main()
_SENT: Any = object()  # in the place of a name: the names of the globals that this pool was sent


def _unlike_inherited(used: Mapping[str, Any], main: Any) -> dict[str, Any]:
    """What of these globals is to be sent to a pool that has inherited some."""
    from andon._stamps import Unchanged, is_inherited

    sent = main.setdefault(_SENT, set())
    newer = {}
    for name, value in used.items():
        kept = main.get(name, _MAIN)
        if not is_inherited(kept, value):
            newer[name] = value
        elif name in sent:  # it was another in between
            newer[name] = value if isinstance(kept, Unchanged) else _ByName(name)
    sent.update(newer)
    return newer


class _ByName:
    """A global that is again what the other side has inherited, and may not be fit to travel."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return main_attribute, (self._name,)


def main_namespace() -> dict[str, Any]:
    """The globals of `__main__` on the other side."""
    return vars(sys.modules["__main__"])


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
    if getattr(obj, "__module__", None) not in MAINS:
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
    """The other end of a journey by name: what was inherited under it."""
    first, *rest = name.split(".")
    found = _of_main.inherited.get(first, _MAIN)
    if found is _MAIN:
        found = vars(sys.modules["__main__"])[first]
    for part in rest:
        found = getattr(found, part)
    return found


if hasattr(os, "register_at_fork"):
    # What the parent has made, a forked child has received.
    os.register_at_fork(after_in_child=_made_here.clear)
