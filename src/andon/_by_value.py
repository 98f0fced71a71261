"""How objects of `__main__` are reduced that cloudpickle would send by name, or not whole: on the
other side they are not in `__main__`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import Any, NewType, ParamSpec, TypeVarTuple

from andon._words import MAINS

_Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def is_known(obj: Any) -> bool:
    """Is it of a kind that is reduced here?"""
    return type(obj) in _HOW


def reduce(obj: Any) -> _Reduced | None:
    """None: not one of these, or not of `__main__`."""
    how = _HOW.get(type(obj))
    if how is None:
        return None
    whose = obj.func if type(obj) is cached_property else obj
    return how(obj) if getattr(whose, "__module__", None) in MAINS else None


def _cached(obj: Any) -> _Reduced:
    return cached, (obj.__wrapped__, obj.cache_parameters())


def cached(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """The function with a cache of its own."""
    return lru_cache(**parameters)(fn)


def _new_type(obj: Any) -> _Reduced:
    return NewType, (obj.__name__, obj.__supertype__)


def _by_name(obj: Any) -> _Reduced:
    return type(obj), (obj.__name__,)


def _property(obj: cached_property[Any]) -> _Reduced:
    # In Python 3.11 it has a lock, and cannot be pickled.
    return property_anew, (obj.func, obj.attrname)


def property_anew(fn: Callable[[Any], Any], name: str | None) -> cached_property[Any]:
    """As if it had been assigned to that name in its class."""
    made = cached_property(fn)
    made.attrname = name
    return made


_HOW: dict[type, Callable[[Any], _Reduced]] = {
    cached_property: _property,
    type(lru_cache(str)): _cached,
    NewType: _new_type,
    ParamSpec: _by_name,
    TypeVarTuple: _by_name,
}


# Classes -----------------------------------------------------------------------------------------


def with_slots(cls: type, arguments: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """`arguments` of cloudpickle's skeleton of a class, so that it has the slots: else instances
    would have a `__dict__`, and be at home neither here nor there. `attributes` loses what comes
    with the slots."""
    slots = vars(cls).get("__slots__")
    if not slots:  # (a NamedTuple has empty ones, and refuses to be given any)
        return arguments
    for name in [n for n, v in attributes.items() if type(v) is MemberDescriptorType]:
        del attributes[name]  # one that is private has another name than cloudpickle looks for
    attributes.pop("__slots__")
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    constructor, name, bases, namespace, *rest = arguments
    return constructor, name, bases, {**namespace, "__slots__": names}, *rest
