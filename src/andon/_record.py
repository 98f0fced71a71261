"""Dataclasses with slots that cost little to define: `import andon` defines some fifty.

`dataclasses` writes and compiles up to eight methods for each class, and imports `inspect`; that
alone took half of a pool's cold start. Here only `__init__` is compiled, the other methods are
shared and slow, and what `dataclasses` wants to know (`fields`, `replace`, `asdict`) is found out
when it asks. Fields are those of the class itself: records do not inherit any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


class _Made:
    """A default that is made anew for each record."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def made(*, default_factory: Callable[[], Any]) -> Any:
    """The field's default is what this returns, each time (`dataclasses.field`)."""
    return _Made(default_factory)


@dataclass_transform(field_specifiers=(made,))
def record(*, eq: bool = True, frozen: bool = False) -> Callable[[type[T]], type[T]]:
    """Make a class a dataclass with slots. `eq`: compared by its fields; `frozen`: its fields
    cannot be set, and it has a hash."""

    def make(cls: type[T]) -> type[T]:
        told = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 (inspect is what we avoid)
        names = tuple(told)
        space = {k: v for k, v in cls.__dict__.items() if k not in ("__dict__", "__weakref__")}
        defaults = {name: space.pop(name) for name in names if name in space}
        space["__slots__"] = space["__match_args__"] = names
        twin = _Twin(names, defaults, eq, frozen)
        space["__dataclass_fields__"] = _Asked(twin, "__dataclass_fields__")
        space["__dataclass_params__"] = _Asked(twin, "__dataclass_params__")
        space["__init__"] = init = _init(names, defaults, frozen)
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        init.__module__ = cls.__module__
        init.__annotations__ = {**told, "return": None}
        space.setdefault("__repr__", _repr)
        space["__replace__"] = _replace  # copy.replace, from 3.13 on
        if eq:
            space["__eq__"] = _eq
            space["__hash__"] = _hash if frozen else None
        if frozen:
            space["__setattr__"] = space["__delattr__"] = _refuse
            space["__getstate__"], space["__setstate__"] = _getstate, _setstate
        again: Any = type(cls)
        return again(cls.__name__, cls.__bases__, space)  # type: ignore[no-any-return]

    return make


def _init(names: tuple[str, ...], defaults: dict[str, Any], frozen: bool) -> Any:
    scope: dict[str, Any] = {"_set": object.__setattr__, "_made": _MADE}
    arguments, lines = ["self"], []
    for name in names:
        value = name
        if name in defaults:
            default = defaults[name]
            if isinstance(default, _Made):
                scope[f"_make_{name}"] = default.make
                value = f"_make_{name}() if {name} is _made else {name}"
                default = _MADE
            scope[f"_default_{name}"] = default
            arguments.append(f"{name}=_default_{name}")
        else:
            arguments.append(name)
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    body = "; ".join(lines) or "pass"
    exec(f"def __init__({', '.join(arguments)}): {body}", scope)
    return scope["__init__"]


class _Default:
    def __repr__(self) -> str:
        return "<made>"


_MADE = _Default()


class _Twin:
    """A real dataclass with the same fields, made when `dataclasses` first asks for them."""

    def __init__(
        self, names: tuple[str, ...], defaults: dict[str, Any], eq: bool, frozen: bool
    ) -> None:
        self._about = names, defaults, eq, frozen
        self._made: Any = None

    def of(self, cls: type) -> Any:
        if self._made is None:
            import dataclasses

            names, defaults, eq, frozen = self._about
            space: dict[str, Any] = {"__module__": cls.__module__}
            for name, default in defaults.items():
                if isinstance(default, _Made):
                    default = dataclasses.field(default_factory=default.make)
                space[name] = default
            space["__annotations__"] = {name: cls.__annotations__[name] for name in names}
            self._made = dataclasses.dataclass(eq=eq, frozen=frozen)(type("Twin", (), space))
        return self._made


class _Asked:
    """An attribute of a record's class that its twin has."""

    def __init__(self, twin: _Twin, name: str) -> None:
        self._twin = twin
        self._name = name

    def __get__(self, obj: object, owner: type) -> Any:
        return getattr(self._twin.of(owner), self._name)


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in type(self).__match_args__])


_inside: set[tuple[int, int]] = set()  # records that are being told, by thread: one may hold itself


def _repr(self: Any) -> str:
    import threading

    key = id(self), threading.get_ident()
    if key in _inside:
        return "..."
    _inside.add(key)
    try:
        told = [f"{n}={getattr(self, n)!r}" for n in type(self).__match_args__]
    finally:
        _inside.discard(key)
    return f"{type(self).__qualname__}({', '.join(told)})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _values(self) == _values(other)


def _replace(self: Any, /, **changes: Any) -> Any:
    values = dict(zip(type(self).__match_args__, _values(self), strict=True))
    return type(self)(**{**values, **changes})


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: Any, name: str, *value: Any) -> None:
    from dataclasses import FrozenInstanceError

    act = "assign to" if value else "delete"
    raise FrozenInstanceError(f"cannot {act} field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return list(_values(self))


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(type(self).__match_args__, state, strict=True):
        object.__setattr__(self, name, value)
