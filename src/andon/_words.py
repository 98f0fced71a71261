"""Words for and on any object or error, whatever its own methods do."""

from __future__ import annotations

import builtins
import copyreg
from typing import Any

# What `__main__` is called in a child of `multiprocessing`, which imports it under this name.
MP_MAIN = "__mp_main__"
MAINS = ("__main__", MP_MAIN)
_LINE = 300  # characters
LONGEST = 1 << 20  # characters of what is told beside an error, which itself travels whole
_SAYS_NOTHING = {f"{module}." for module in ("builtins", *MAINS)}

Said = tuple[str, str]
"""The name of an error's type, and its message."""

# As they are, whatever the class says.
_qualname = type.__dict__["__qualname__"].__get__
_args = BaseException.__dict__["args"].__get__
_own_str = BaseException.__str__

# Errors that say their one argument.
_PLAIN: dict[type, str] = {
    kind: name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    and kind.__name__ == name
    and kind.__str__ is _own_str
}

# Of those, by name, the ones that are nothing but their arguments.
_reduce: Any = BaseException.__reduce__
BARE: dict[str, type[BaseException]] = {
    name: kind
    for kind, name in _PLAIN.items()
    if kind.__basicsize__ == BaseException.__basicsize__ and kind.__reduce__ is _reduce
}


def describe(error: BaseException) -> str:
    """`Type: message`, whatever the error's own `__str__` does."""
    return as_text(*say(error))


def say(error: BaseException) -> Said:
    """Its type's name and its message: to be asked once, and handed on, since that may be code of
    the user's."""
    kind, args = type(error), _args(error)
    if type(kind) is type and kind in _PLAIN and len(args) == 1 and type(args[0]) is str:
        return _PLAIN[kind], clip(args[0])  # as most are
    return type_name(error), message_of(error)


def is_plain(error: BaseException) -> bool:
    """Is `str(error)` a text that it holds, or none: no code of the user's, and soon said?"""
    args = _args(error)
    if args and (len(args) > 1 or type(args[0]) is not str):
        return False
    try:
        return type(error).__str__ is _own_str
    except BaseException:  # a descriptor, or a metaclass
        return False


def is_bare(error: BaseException) -> bool:
    """Is it all said by `say`: is it `BARE[name](message)`, as pickle would make it?"""
    kind, args = type(error), _args(error)
    return (
        type(kind) is type
        and _PLAIN.get(kind) in BARE
        and len(args) == 1
        and type(args[0]) is str
        and len(args[0]) <= LONGEST
        and len(_reduce(error)) == 2  # it has no attributes of its own
        and kind not in copyreg.dispatch_table
    )


def as_text(name: str, message: str) -> str:
    """A type's name and a message as one."""
    return f"{name}: {message}" if message else name


def type_name(error: BaseException) -> str:
    """The error's type, with its module where that says something."""
    full, name = class_names(type(error))
    return name if full[: -len(name)] in _SAYS_NOTHING else full


def class_names(kind: type) -> tuple[str, str]:
    """Its name with the module, and without, whatever its metaclass does."""
    try:
        module, name = f"{kind.__module__}", f"{kind.__qualname__}"
        return str.__str__(f"{module}.{name}"), str.__str__(name)
    except BaseException:
        name = str.__str__(_qualname(kind))
        return name, name


def message_of(error: BaseException) -> str:
    """`str(error)`, or a remark where that raises."""
    try:
        # Which may be of a class of its own, and then cannot travel.
        return clip(str.__str__(str(error)))
    except BaseException:
        return f"<its __str__ raises; arguments: {short(_args(error))}>"


def clip(text: str) -> str:
    """Not longer than LONGEST."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def one_line(text: str) -> str:
    """Its first line, shortened: for texts that stand in others."""
    line = next(iter(text.splitlines()), "")[:_LINE]
    return line if len(line) == len(text) else f"{line[: _LINE - 1]}…"


def note(error: BaseException, text: str) -> None:
    """Add a note, where the error lets us."""
    try:
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)
    except BaseException:  # a user's exception may forbid attributes; it is raised without the note
        return


def short(obj: Any, limit: int = 60) -> str:
    """A `repr` that never raises and is never long."""
    try:
        text = str.__str__(repr(obj))
    except BaseException:
        text = f"<{class_names(type(obj))[1]}, whose repr raises>"
    return text if len(text) <= limit else text[: limit - 1] + "…"
