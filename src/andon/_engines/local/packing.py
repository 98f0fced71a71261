"""Calls into bytes, in the thread that submits them (S28), so that errors are raised there.

Invariants
 1. What is sent is what the objects were when they were submitted: later changes are not seen.
 2. `frame` pickles nothing but built-in types: it may run under the engine's lock (see the port).
 3. A function travels once per worker under its number; equal bytes have one number, unless a
    global that they set was another in between. The bytes are remembered by object only where they
    cannot change: a module's function, by reference.
 4. There is no lock: two threads, or a finalizer in between, may give one function two numbers.
"""

from __future__ import annotations

import itertools
import pickle
import struct
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

from andon import _multiprocessing, _wire
from andon._blame import explain
from andon._buffers.parcel import LARGE, Parcel, Pickling
from andon._engines.local.store import Block, Store
from andon._engines.port import Attempt, Call, Frozen, Pace
from andon._pickling import dumps, is_named
from andon._plain import SCALARS, is_plain
from andon._stamps import Imprint
from andon._words import short
from andon.errors import SerializationError, also

# Unpickling these runs no user code and cannot fail, so a list of them may travel as one pickle.
_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
_STRINGS = frozenset({str, bytes})  # not where they are large
_REMEMBERED = 64
_SMALL = LARGE
_BYTES = struct.Struct("<cQ")  # BINBYTES8 and the length


class Function:
    """A pickled callable."""

    __slots__ = ("__weakref__", "data", "id", "imprint", "pace")

    def __init__(self, ident: int, data: bytes, imprint: Imprint) -> None:
        self.id = ident
        self.data = data
        self.imprint = imprint
        self.pace = Pace()


class Packed:
    """A pickled call; a span's items stay apart, since an attempt may want only some of them."""

    __slots__ = (
        "args",
        "blocks",
        "body",
        "calls",
        "function",
        "gathered",
        "items",
        "plain",
        "seconds",
        "size",
        "star",
    )

    def __init__(self, function: Function, body: bytes) -> None:
        self.function = function
        self.body = body
        self.args: tuple[Any, ...] | None = None  # plain ones, in place of a body
        self.calls = False  # the items hold arguments, both kinds of them
        self.items: list[Any] | _wire.Plain | None = None
        self.plain = False
        self.star = False
        self.gathered = False  # its results may come late
        self.seconds = 0.0  # that an item should take
        self.size = 0  # of the large ones, in bytes
        self.blocks: tuple[Block, ...] = ()  # where these lie, until this call is over

    @classmethod
    def span(
        cls, function: Function, items: list[Any] | _wire.Plain, plain: bool, star: bool
    ) -> Packed:
        """`items` hold a pickle each, or, where `plain`, are what they are."""
        self = cls(function, b"")
        self.items, self.plain, self.star = items, plain, star
        return self


class Packer:
    """One pool's; `pack` is safe in any thread."""

    def __init__(self, store: Store, main_by_reference: Mapping[str, Any] | None = None) -> None:
        self._main = main_by_reference
        self._store = store
        self._pickling = Pickling(main_by_reference)
        self._initializer = Packed(Function(0, b"", {}), b"")  # for as long as the pool
        self._numbers = itertools.count(1)
        self._by_data: WeakValueDictionary[bytes, Function] = WeakValueDictionary()
        self._by_object: OrderedDict[int, tuple[Any, Function]] = OrderedDict()
        self._recent: deque[Function] = deque(maxlen=8)  # kept, though no call needs them now

    def pack(self, call: Call) -> Packed:
        """Raises SerializationError, naming the object that cannot be pickled."""
        function = self._function(call.fn)
        if call.items is None:
            packed = Packed(function, b"")
            if not call.kwargs and _all_plain(call.args, set(map(type, call.args))):
                packed.args = call.args
            else:
                packed.body = self._arguments(call, packed)
            return packed
        plain = _plain(call.items)
        items: list[bytes] = []
        held = items if plain is None else plain
        packed = Packed.span(function, held, plain is not None, call.star)
        packed.seconds = call.seconds / len(call.items)
        packed.gathered = call.gathered
        if plain is not None:
            return packed
        dumps = self._pickling.dumps
        for i, item in enumerate(call.items):
            if type(item) is Frozen:
                items.append(item.data)
                continue
            try:
                data = dumps(item)
                items.append(data if type(data) is bytes else self._put(item, data, packed))
            except Exception as error:
                parts = _named(item, call.first + i, call.star)
                raise self._error(error, "the arguments", parts) from error
        return packed

    def freeze(self, item: Any) -> Any:
        """See `Capabilities`. What is large is packed at once, for its buffers are its owner's."""
        kind = type(item)
        if kind is tuple and SCALARS.issuperset(map(type, item)):
            return item
        if (kind is dict or kind is list) and is_plain(item):
            return item.copy()
        try:
            data = self._pickling.dumps(item)
        except Exception:  # who packs it says so, and of what
            return None
        return Frozen(data) if type(data) is bytes else None

    @staticmethod
    def bundle(calls: Iterable[Packed]) -> tuple[Packed, int]:
        """The first few as the items of one, while they are of one function and of one kind, and
        not large; how many."""
        each = iter(calls)
        first = next(each)
        size, items = len(first.body), [first]
        if not first.size and size < _SMALL:
            for packed in each:
                size += len(packed.body)
                if packed.function is not first.function or packed.size or size > _SMALL:
                    break
                if (packed.args is None) is not (first.args is None):
                    break
                items.append(packed)
        if len(items) == 1:
            return first, 1
        if first.args is not None:
            return Packed.span(first.function, [p.args for p in items], True, True), len(items)
        together = Packed.span(first.function, [p.body for p in items], False, False)
        together.calls = True
        return together, len(items)

    @staticmethod
    def pace(packed: Packed) -> Pace:
        """That of its function."""
        return packed.function.pace

    @staticmethod
    def weigh(packed: Packed) -> int:
        """The bytes of its large arguments."""
        return packed.size

    def initializer(self, initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> bytes:
        """What every worker runs first. As with `multiprocessing`, its locks, queues and shared
        values may be among the arguments here, and only here."""
        # Plain pickle would take a copy of a raw value for the value.
        plainly = "multiprocessing.sharedctypes" not in sys.modules
        with _spawning():
            try:
                whole = (initializer, initargs)
                return self._dumps(whole, self._initializer, plainly=plainly)
            except Exception as error:
                parts = [("initializer", initializer)]
                parts += [(f"initargs[{i}]", arg) for i, arg in enumerate(initargs)]
                what = "the initializer and its arguments"
                raise self._error(error, what, parts) from error

    def _dumps(self, obj: Any, packed: Packed, *, plainly: bool = True) -> bytes:
        """The pickle; what is large goes into the store, and a ticket instead."""
        return self._put(obj, self._pickling.dumps(obj, plainly=plainly), packed, plainly=plainly)

    def _put(
        self, obj: Any, data: bytes | Parcel, packed: Packed, *, plainly: bool = True
    ) -> bytes:
        if isinstance(data, bytes):
            return data
        packed.size += data.size
        put = self._store.put(data)
        if put is None:
            return self._pickling.whole(obj, data, plainly=plainly)
        packed.blocks += (put[1],)
        return put[0]

    def _arguments(self, call: Call, packed: Packed) -> bytes:
        try:
            return self._dumps((call.args, call.kwargs), packed)
        except Exception as error:
            parts = [(f"args[{i}]", arg) for i, arg in enumerate(call.args)]
            parts += [(f"kwargs[{name!r}]", arg) for name, arg in call.kwargs.items()]
            raise self._error(error, "the arguments", parts) from error

    def _function(self, fn: Callable[..., Any]) -> Function:
        known = self._by_object.get(id(fn))
        if known is not None and known[0] is fn:
            return known[1]
        imprint: Imprint = {}
        try:
            data = dumps(fn, self._main, imprint=imprint)
        except Exception as error:
            name = getattr(fn, "__qualname__", None) or short(fn)
            parts = [(f"the function {name!r}", fn)]
            raise self._error(error, "the function", parts) from error
        function = self._by_data.get(data)
        if function is None or function.imprint != imprint:
            function = self._by_data[data] = Function(next(self._numbers), data, imprint)
        if len(data) < _SMALL and function not in self._recent:
            self._recent.append(function)
        if is_named(fn) and b"cloudpickle" not in data and len(data) < 1000:
            self._by_object[id(fn)] = (fn, function)
            if len(self._by_object) > _REMEMBERED:
                with suppress(KeyError):
                    self._by_object.popitem(last=False)
        return function

    def _error(
        self, error: BaseException, what: str, parts: list[tuple[str, Any]]
    ) -> SerializationError:
        message, named, original = explain(error, what, parts, self._main)
        failure = SerializationError(message, what=named, where="parent", original=original)
        return also(failure, type(error))


def _named(item: Any, number: int, star: bool) -> list[tuple[str, Any]]:
    """The parts of a map's item, by their names in messages."""
    name = f"item {number}"
    if star and isinstance(item, list | tuple):
        return [(f"{name}, args[{i}]", arg) for i, arg in enumerate(item)]
    return [(name, item)]


@contextmanager
def _spawning() -> Iterator[None]:
    """`multiprocessing`'s locks and the like may be pickled only while a process is started; so
    they ask, and it lends them their descriptors."""
    context: Any = sys.modules.get("multiprocessing.context")
    if context is None:  # then there are no such locks
        yield
        return
    before = context.get_spawning_popen()
    context.set_spawning_popen(_multiprocessing.Lender)  # of this thread
    try:
        yield
    finally:
        context.set_spawning_popen(before)


def frame(attempt: Attempt, flags: int = 0) -> list[bytes]:
    """The request that starts an attempt, in parts."""
    packed: Packed = attempt.packed
    token = attempt.group.token
    if attempt.fatal:
        flags |= _wire.FATAL
    if packed.items is None:
        meta: Any = (packed.function.id, token._slot, token._clear, attempt.lo)
        body = packed.body if packed.args is None else pickle.dumps((packed.args, {}), 5)
        head = _wire.pack(_wire.CALL, flags, attempt.id, meta, len(body))
        return [head, body]
    if packed.gathered:
        flags |= _wire.GATHERED
    items, form = packed.items, _wire.PICKLED
    if not isinstance(items, list):
        form, body = _wire.pack_items(items, attempt.lo, attempt.hi)
        parts = [body] if body else []
    elif packed.plain:
        parts = [pickle.dumps(items[attempt.lo : attempt.hi], 5)]
    else:
        flags |= _wire.EACH | (_wire.CALLS if packed.calls else 0)
        parts = _pickled_list(items[attempt.lo : attempt.hi])
    meta = (packed.function.id, token._slot, token._clear, attempt.lo, packed.star, form)
    total = sum(map(len, parts))
    return [_wire.pack(_wire.SPAN, flags, attempt.id, meta, total), *parts]


def _pickled_list(items: list[bytes]) -> list[bytes]:
    """The pickle of a list of bytes; large ones are not copied for it."""
    if max(map(len, items)) < _SMALL:
        return [pickle.dumps(items, 5)]
    parts = [b"\x80\x05]("]
    for item in items:
        parts += (_BYTES.pack(b"\x8e", len(item)), item)
    parts.append(b"e.")
    return parts


def _plain(items: Sequence[Any]) -> list[Any] | _wire.Plain | None:
    """What travels of items that are plain values; None: one of them is not."""
    if type(items) is range:
        return items
    if (column := _wire.column(items)) is not None:
        return column
    kinds = set(map(type, items))
    return list(items) if _all_plain(items, kinds) else _wire.listed(items)


def _all_plain(items: Sequence[Any], kinds: set[type]) -> bool:
    if tuple in kinds:
        kinds.discard(tuple)
        members = [x for item in items if type(item) is tuple for x in item]
        inner = set(map(type, members))
        if not inner <= _PLAIN or _any_large(members, inner):
            return False
    return kinds <= _PLAIN and not _any_large(items, kinds)


def _any_large(items: Iterable[Any], kinds: set[type]) -> bool:
    if kinds.isdisjoint(_STRINGS):
        return False
    if not kinds <= _STRINGS:
        items = [item for item in items if type(item) in _STRINGS]
    return max(map(len, items), default=0) >= LARGE
