"""The locks of ours that a thread may hold while code of others comes in between.

The collector runs finalizers between any two bytecodes of any thread, also of one that holds a lock
of ours, and a finalizer may submit or cancel. To wait there for another lock of ours could be for
ever: whoever holds that may be in a finalizer just the same. So these are reentrant, and who is
`inside` one does not wait for another, but leaves what is to be done to somebody else.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

_all: list[weakref.ref[Any]] = []


def make_lock() -> Any:
    """A reentrant one, known to `inside`."""
    lock = threading.RLock()
    _all.append(weakref.ref(lock, _all.remove))
    return lock


def inside() -> bool:
    """Does the calling thread hold one of them?"""
    return any((lock := ref()) is not None and lock._is_owned() for ref in list(_all))
