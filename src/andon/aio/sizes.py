"""Which calls are so plainly small that the loop may pickle them itself."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any

from andon._engines.port import Call
from andon._pickling import goes_by_value

_FIXED = frozenset({int, float, bool, complex, type(None)})
_TEXT = (str, bytes)
_CONTAINERS = (tuple, list, set, frozenset)
_OBJECTS = 200  # looked at, at most
_LENGTH = 1 << 16  # of all texts together, in characters


def is_small(call: Call) -> bool:
    """Is it a module's function with few and short values of built-in types? Of anything else
    nobody knows how long its pickling takes."""
    if not isinstance(call.fn, FunctionType | BuiltinFunctionType | type) or goes_by_value(call.fn):
        return False
    return _looks_small([*call.args, *call.kwargs.values()])


def _looks_small(values: list[Any]) -> bool:
    left, length = _OBJECTS, _LENGTH
    while values:
        value = values.pop()
        kind = type(value)
        left -= 1
        if kind in _TEXT:
            length -= len(value)
        elif kind in _FIXED:
            if kind is int:
                length -= value.bit_length() >> 3
        elif kind is dict or kind in _CONTAINERS:
            if len(value) > left:
                return False
            values += value
            if kind is dict:
                values += value.values()
        else:
            return False
        if left <= 0 or length < 0:
            return False
    return True
