"""What of `__main__` is sent by value is stamped: has it changed since it was sent last?

What is sent is as it was when it was submitted. Once a global has changed to and fro, equal bytes
are not the same function any more, for the worker has had another value since (`Imprint`). And the
worker may have changed a value in place, which is to stay, while here it is as it was (`Marks`;
see `_of_main`).
"""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from types import FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from andon._of_main import has_globals
from andon._plain import FORMAT, SCALARS, dumps, is_plain
from andon._words import MAINS

Marks = dict[str, bytes]
"""Of values that can be changed in place: an equal mark says that they were not."""

Imprint = dict[Any, int]
"""Of a pickle: of each value that it sets on the other side, since when it is as it is."""

_State = tuple[bytes | None, Any]  # its mark, or, where it has none, what else tells it
_Sent = dict[str, tuple[_State, int]]  # and since when

_sent: _Sent = {}  # globals
_sent_of: WeakKeyDictionary[type, _Sent] = WeakKeyDictionary()  # attributes
_moments = count(1)
_MANY = 1000  # characters or bytes


def stamp(values: Mapping[str, Any], imprint: Imprint, of: type | None = None) -> Marks:
    """These are sent, as globals, or as attributes `of` a class: note it in the pickle's imprint.
    The marks that go with them."""
    sent = _sent if of is None else _sent_of.setdefault(of, {})
    marks = {}
    for name, value in values.items():
        now = found, _ = _state(value)
        if found is not None and type(value) not in SCALARS:
            marks[name] = found
        before = sent.get(name)
        if before is None or before[0] != now:
            before = sent[name] = now, next(_moments)
        imprint[name if of is None else (id(of), name)] = before[1]
    return marks


def mark(value: Any) -> bytes | None:
    """None: nobody can tell but by its identity."""
    if issubclass(type(value), type | ModuleType):
        return None
    if type(value) is FunctionType and not has_globals(value):
        return None  # it brings others with it, of a library that has decorated it
    from hashlib import blake2b  # loaded with the pickler: a pool is opened without it

    buffers: list[pickle.PickleBuffer] = []
    try:
        with io.BytesIO() as file:
            marker = _Marker(file, 5, buffer_callback=buffers.append)
            marker.dump(value)
            digest = blake2b(file.getvalue(), digest_size=16)
        for buffer in buffers:
            digest.update(buffer)
    except Exception:  # what cannot be pickled plainly, or not at all
        return None
    for number in marker.named:
        digest.update(b"%d," % number)
    return digest.digest()


class _Marker(pickle.Pickler):
    """What it only names may be another object by now (a class that was defined anew), so these are
    numbered. What travels of a function by value is in the pickle; globals are stamped apart."""

    def __init__(self, file: io.BytesIO, protocol: int, **more: Any) -> None:
        super().__init__(file, protocol, **more)
        self.named: list[int] = []

    def reducer_override(self, obj: Any) -> Any:
        try:
            named = getattr(obj, "__module__", None) in MAINS and hasattr(obj, "__qualname__")
        except BaseException:  # code of the object's own
            named = False
        if named and type(obj) is not MethodType:  # (one is made each time, of what comes by)
            self.named.append(_number(obj))
            if type(obj) is FunctionType and has_globals(obj):
                self.named.append(_number(obj.__code__))
                return object, (), _parts(obj)  # (pickled last, so a function may be in them)
        return NotImplemented


_objects: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def _number(obj: Any) -> int:
    number = _objects.get(obj)
    if number is None:
        number = _objects[obj] = next(_moments)
    return number


def _state(value: Any) -> _State:
    found = mark(value)
    if found is None and type(value) is FunctionType:
        parts = [mark(part) or (id(part),) for part in _parts(value)]
        return None, (_number(value), _number(value.__code__), parts)
    return found, None if found else id(value)


_OF_FUNCTION = (
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
    "__doc__",
    "__name__",
    "__qualname__",
)


def _parts(fn: FunctionType) -> list[Any]:
    """What travels with it by value, but for its code and the globals."""
    parts = [*vars(fn), *vars(fn).values()]
    for name in _OF_FUNCTION:
        with suppress(Exception):  # annotations may be made when they are asked for
            parts.append(getattr(fn, name))
    for cell in fn.__closure__ or ():
        with suppress(ValueError):  # it is empty
            parts.append(cell.cell_contents)
    return parts


class Unchanged:
    """Stands for a global that a forked worker has inherited; it is compared with what is there
    later, since keeping the value itself might keep it alive."""

    __slots__ = ("_kind", "_look")

    def __init__(self, kind: type, look: bytes) -> None:
        self._kind = kind
        self._look = look

    @classmethod
    def of(cls, value: Any) -> Unchanged | None:
        """None where it is too much to look at, or changes in ways that nobody sees."""
        look = _look(value)
        return None if look is None else cls(type(value), look)

    def is_as(self, value: Any) -> bool:
        """Is the global, which is this now, as it was?"""
        return type(value) is self._kind and _look(value) == self._look


def _look(value: Any) -> bytes | None:
    """A plain value in bytes. None: it is not plain, or a thread is changing it."""
    try:
        if not is_plain(value):
            return None
        if type(value) is dict:
            members = [*value, *value.values()]
        else:
            members = value if type(value) in (list, tuple) else [value]
        return dumps([_shortened(member) for member in members], FORMAT)
    except (RuntimeError, ValueError):
        return None


def _shortened(value: Any) -> Any:
    if type(value) in (str, bytes) and len(value) > _MANY:
        return type(value).__name__, len(value), hash(value)  # without a copy, and `hashlib`
    return value


class Inherited:
    """Stands for a callable object that a forked worker has inherited, and may have prepared in an
    initializer: a model, say."""

    __slots__ = ("_get",)

    def __init__(self, value: Any) -> None:
        self._get: Callable[[], Any]
        try:
            self._get = weakref.ref(value)
        except TypeError:  # of a type without
            self._get = lambda: value

    def is_as(self, value: Any) -> bool:
        """Is it still the global, which is this now?"""
        return self._get() is value


def is_inherited(kept: Any, value: Any) -> bool:
    """Is the global, which is this now, as `take_main` has kept it?"""
    return kept.is_as(value) if isinstance(kept, Unchanged | Inherited) else kept is value
