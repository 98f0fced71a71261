"""Log records of user code in a worker: handled by the parent's handlers, and there alone.

Imported only where `logging` is (see `relay.py`). Each record is made ready here as
`logging.handlers.QueueHandler` does it, so that it can travel: its message is formatted, and the
traceback of an error is text.

Invariants:
 1. Where the parent has handlers, all records go home, whatever the start method: handlers and
    filters that a forked worker has inherited are dropped here, unclosed; their originals act.
 2. A handler that the worker's own code adds works here, besides; but not one that a module adds
    as it is imported where the parent has its like: there it has done the same.
"""

from __future__ import annotations

import logging
import marshal
import pickle
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from andon import _wire
from andon._gate import gate
from andon._pickling import dumps
from andon._words import short
from andon._worker.state import current

if TYPE_CHECKING:
    from andon._worker.relay import Relay

Travelling = tuple[dict[str, Any], bytes]
"""A record on its way: its plain attributes, and a pickle of a dict of the others."""

_PLAIN = frozenset({int, float, str, bool, type(None)})
_IMPORT_SYSTEM: Final = "<frozen importlib._bootstrap>"
_LOOP: Final = "andon._worker.loop"
_formatter = logging.Formatter()
_dropped: list[Any] = []  # inherited: a finalizer might flush what the parent will write, too


def snapshot() -> dict[str, Any] | None:
    """The levels of this process, in built-in types; None where it has no handler."""
    root = logging.getLogger()
    loggers = [root, *_loggers()]
    handlers = {
        logger.name: names
        for logger in loggers
        if (names := [_kind(h) for h in logger.handlers if type(h) is not logging.NullHandler])
    }
    if not handlers:
        return None
    return {
        "disable": root.manager.disable,
        "levels": {lg.name: lg.level for lg in loggers if lg is root or lg.level},
        "off": [lg.name for lg in loggers if lg.disabled],
        "handlers": handlers,
    }


def _loggers() -> list[logging.Logger]:
    found = list(logging.getLogger().manager.loggerDict.values())
    return [logger for logger in found if isinstance(logger, logging.Logger)]


def _kind(handler: logging.Handler) -> str:
    kind = type(handler)
    return f"{kind.__module__}.{kind.__qualname__}"


def install(relay: Relay, state: dict[str, Any]) -> None:
    """In a worker: the parent's levels, and one handler, which sends everything home."""
    root = logging.getLogger()
    for logger in (root, *_loggers()):
        _dropped.extend((*logger.handlers, *logger.filters))
        logger.handlers.clear()
        logger.filters.clear()
        logger.propagate = True
    # `dictConfig` closes what is listed there, and closing may flush.
    getattr(logging, "_handlerList", []).clear()
    for name, level in state["levels"].items():
        (root if name == "root" else logging.getLogger(name)).setLevel(level)
    for name in state["off"]:
        logging.getLogger(name).disabled = True
    logging.disable(state["disable"])
    root.addHandler(Homeward(relay))
    _stand_in_for_imports(state["handlers"])


class Homeward(logging.Handler):
    """Sends each record to the parent."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def createLock(self) -> None:
        self.lock = None  # there is nothing here that would need one, or could be left locked

    def handle(self, record: logging.LogRecord) -> bool:
        """Send it; in a process that a task has forked, do as where nothing is set up."""
        if self._relay.is_ours():
            self.emit(record)
        elif logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Waits only where the parent's handlers are far behind; a stop ends that (S17)."""
        try:
            self._relay.make_room()
            fields = _ready(record)
            with gate:
                self._relay.send(_wire.RECORD, _packed(fields))
        except Exception:
            self.handleError(record)


def _ready(record: logging.LogRecord) -> dict[str, Any]:
    """What the record says, without what cannot travel."""
    fields = dict(vars(record))
    fields["msg"] = fields["message"] = record.getMessage()
    fields["args"] = None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = _formatter.formatException(record.exc_info)
    fields["exc_info"] = None
    if fields.get("processName") == "MainProcess" and current.row is not None:
        fields["processName"] = f"AndonWorker-{current.row.number}"
    return fields


def _packed(fields: dict[str, Any]) -> bytes:
    others = {name: value for name, value in fields.items() if type(value) not in _PLAIN}
    if not others:
        return marshal.dumps((fields, b""))
    plain = {name: value for name, value in fields.items() if name not in others}
    return marshal.dumps((plain, _pickled(others)))


def _pickled(others: dict[str, Any]) -> bytes:
    try:
        return dumps(others, homeward=True)
    except Exception:
        pass
    for name, value in others.items():
        try:
            dumps(value, homeward=True)
        except Exception:
            others[name] = short(value)
    return pickle.dumps({}) if not others else dumps(others, homeward=True)


def _stand_in_for_imports(known: dict[str, list[str]]) -> None:
    add = logging.Logger.addHandler

    def add_handler(self: logging.Logger, hdlr: logging.Handler) -> None:
        """Add it, unless a module does so as it is imported, and the parent has its like there."""
        if _kind(hdlr) in known.get(self.name, ()) and _is_importing():
            return
        add(self, hdlr)

    logging.Logger.addHandler = add_handler  # type: ignore[method-assign]


def _is_importing() -> bool:
    frame: FrameType | None = sys._getframe(2)
    # Behind the loop stand, in a forked worker, frames of the parent.
    while frame is not None and frame.f_globals.get("__name__") != _LOOP:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
