"""The frames between the parent and one worker of the local engine, both ways.

A frame is a fixed header, a small `meta` tuple (marshal: built-in types only, so that reading
it never runs user code) and a `body` (a pickle of user objects). The task's identity travels in
header and meta, outside the pickle (S28). Each direction is a private pipe (S27).
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Sequence
from typing import Any, Final

from andon import _plain

HEADER = struct.Struct("<BB2xIQQ")  # kind, flags, len(meta), attempt, len(body)

# Requests: parent to worker.
BOOT = 1  #     meta=(settings: dict of built-ins)          once, first
INIT = 2  #     body=pickle of (initializer, initargs)      at most once, before the first call
FUNC = 3  #     meta=(fn_id,)  body=pickle of a callable    functions travel once per worker
FORGET = 4  #   meta=(fn_id,)                               drop it
CALL = 5  #     meta=(fn_id, slot, clear, index)            body=pickle of (args, kwargs)
SPAN = 6  #     meta=(fn_id, slot, clear, lo, star, form)   body=pickle of a list of items, or
#                                                           plain ones (see `Plain`)
RETIRE = 7  #   leave when you read this

# Answers: worker to parent.
READY = 20  #   meta=(pid,)                                 booted; wants INIT or work
INITED = 21  #  the initializer returned (always sent after INIT succeeded)
INITFAIL = 22  # meta=(type, message, story)                the initializer raised; worker leaves
VALUE = 23  #   meta=(index, started_at, ended_at, size)    body=pickle of the value, of that size
#                                                           where all of it comes, or a ticket
FAILURE = 24  # meta=(index, started_at|None, ended_at, stage, type, message, story)
#                                                           body=pickle of the exception, or empty;
#               of STAGE_BARE, type and message are all of it;
#               of STAGE_RESULT, message=(the whole of it, the pickling's own, the result's repr);
#               of STAGE_EXCEPTION, message=(its own, the pickling's)
STOPPED = 25  # meta=(index, started_at|None, ended_at, by, cleanup_traceback|None, where|None)
#                                                           body=pickle of that error, or empty;
#               `where`, a story, tells at which line: only of one that was stopped for itself
DONE = 26  #    meta=()                                     the attempt is over (spans cut short)
VALUES = 27  #  meta=(index, started_at, ended_at, count, kind) body=a tray's values of that kind
# Beside them, at any time, whole, and from any thread of the worker:
RECORD = 28  #  meta=(index,)                               body=a log record (`_worker/records`)
WARNING = 29  # meta=(index,)                               body=a warning (`_worker/warned`)
ANSWERS = range(READY, WARNING + 1)

# Flags.
LAST = 1  #     the attempt is over with this frame; unreported items never started
RETIRING = 2  # the worker exits right after this frame
FATAL = 4  #    on CALL/SPAN: the first failure decides, the worker pulls the cord itself (S11)
EACH = 8  #     on SPAN: the list holds one pickle per item, each unpickled before its own call, so
#               that one that cannot be, or that kills the worker, is found by itself (S28)
CALLS = 16 #    beside EACH: each is of (args, kwargs), as in CALL
SPENT = 32 #    beside LAST: idle, but of no more use; all it takes is RETIRE
LONE = 64 #     on CALL: nothing else runs or waits, so the next may come right after the answer
GATHERED = 128 # on SPAN: nobody waits for a value before the last

# Orders, where no signal can give them: single bytes in the lifeline.
INTERRUPT = b"i"
DUMP_STACKS = b"s"

# Stages of a FAILURE: where it went wrong.
STAGE_CALL = "call"
STAGE_BARE = "call, bare"  # the error is all in its type and message (`_words.is_bare`)
STAGE_FUNCTION = "unpickling the function"
STAGE_ARGUMENTS = "unpickling the arguments"
STAGE_RESULT = "pickling the result"
STAGE_EXCEPTION = "pickling the exception"  # the call raised; its exception could not travel


def pack(kind: int, flags: int = 0, attempt: int = 0, meta: Any = (), body_len: int = 0) -> bytes:
    """Header and meta of a frame; the body follows on the wire unchanged."""
    m = marshal.dumps(meta)
    return HEADER.pack(kind, flags, len(m), attempt, body_len) + m


# (kind, flags, len(meta), attempt, len(body)) of the header at a place in some bytes, and the meta
# of a frame: in C alone, since each frame asks for both.
unpack_header = HEADER.unpack_from
unpack_meta = marshal.loads


# A span's items that are plain travel without a pickle: a range in three numbers, other values one
# after the other (`_plain.py`). So a span's form is a range's three numbers, or LISTED; PICKLED
# where it has others.
PICKLED: Final = None
LISTED: Final = "["
_LARGEST = 4096  # bytes of one that is listed
# As `marshal` writes it: what a value of that type begins with, and how many bytes it has.
_WIDTHS: Final = {int: (b"i", 5), float: (b"g", 9), type(None): (b"N", 1)}
_HEAD = 5  # bytes, of a list or tuple
_FIRST = 16


class Column:
    """Plain values of one width, in bytes; to be cut into parts."""

    __slots__ = ("cells", "width")

    def __init__(self, cells: memoryview, width: int) -> None:
        self.cells = cells
        self.width = width


class Listed:
    """Small plain values, each of them in bytes; to be cut into parts."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts


def column(items: Sequence[Any]) -> Column | None:
    """These, where they are whole numbers of at most 32 bits, or floats, or all None; else None."""
    if type(items) not in (list, tuple):
        return None
    mark, width = _WIDTHS.get(type(items[0]), (b"", 0))
    # All of it is written before we know; so where others are among the first, or here and there,
    # we do not try.
    some = (*items[:_FIRST], *items[:: len(items) // _FIRST + 1])
    if not mark or len(set(map(type, some))) > 1:
        return None
    try:
        data = _plain.dumps(items, _plain.FORMAT)
    except (ValueError, MemoryError):  # there is something in it that is not plain, or large
        return None
    # The first value says how long it is, and so where the next one begins; and so on.
    if len(data) != _HEAD + len(items) * width or data[_HEAD::width].count(mark) != len(items):
        return None
    return Column(memoryview(data)[_HEAD:], width)


def listed(items: Sequence[Any]) -> Listed | None:
    """These; None where one of them is not plain, or not small."""
    parts = []
    for item in items:
        if not _plain.is_plain(item):
            return None
        parts.append(_plain.dumps(item, _plain.FORMAT))
        if len(parts[-1]) > _LARGEST:
            return None
    return Listed(parts)


Plain = range | Column | Listed
"""Items that travel without a pickle."""


def pack_items(items: Plain, lo: int, hi: int) -> tuple[Any, bytes]:
    """The form and the bytes of some of them."""
    if isinstance(items, Listed):
        return LISTED, _plain.listed(hi - lo, items.parts[lo:hi])
    if isinstance(items, range):
        part = items[lo:hi]
        return (part.start, part.stop, part.step), b""
    cells = items.cells[lo * items.width : hi * items.width]
    return LISTED, _plain.listed(hi - lo, (cells,))


def unpack_items(form: Any, body: bytes | memoryview) -> range | list[Any]:
    """The items, for a form that is not PICKLED."""
    if form == LISTED:
        return _plain.loads(body)
    return range(*form)
