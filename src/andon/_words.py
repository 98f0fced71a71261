"""Words for and on any object or error, whatever its own methods do."""

from __future__ import annotations

from typing import Any

# What `__main__` is called in a child of `multiprocessing`, which imports it under this name.
MP_MAIN = "__mp_main__"
MAINS = ("__main__", MP_MAIN)


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
    return str.__str__(name if module in ("builtins", *MAINS) else f"{module}.{name}")


def message_of(error: BaseException) -> str:
    """`str(error)`, or a remark where that raises."""
    try:
        return str.__str__(str(error))  # which may be of a class of its own, and then cannot travel
    except BaseException:
        return f"<its __str__ raises; arguments: {short(getattr(error, 'args', ()))}>"


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
        text = repr(obj)
    except BaseException:
        text = f"<{type(obj).__qualname__}, whose repr raises>"
    return text if len(text) <= limit else text[: limit - 1] + "…"
