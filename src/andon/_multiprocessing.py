"""What objects of `multiprocessing` need to travel as they do between its own processes.

Pipe ends and sockets go by its reducers (a thread of its own hands the descriptor over, once);
proxies of a manager only work where its secret key is the current process's key.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

_PROTOCOL = 5
_HANDED_OVER = ("multiprocessing.connection", "multiprocessing.heap", "socket")  # of the types
MARK = b"multiprocessing."
"""In every pickle that is concerned."""


def reduce(obj: Any) -> Any:
    """How `multiprocessing` would reduce it; NotImplemented where it has no way of its own."""
    reduction: Any = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        return NotImplemented
    if type(obj).__module__ not in _HANDED_OVER:
        return NotImplemented
    reducer = reduction.ForkingPickler._extra_reducers.get(type(obj))
    if reducer is None:
        return NotImplemented
    if sys.modules["multiprocessing.context"].get_spawning_popen() is not None:
        raise TypeError(
            "pipes, sockets, queues and shared values of `multiprocessing` are descriptors, which "
            "cannot be handed to workers that are replaced when they die; use "
            "start_method='fork', or a manager's"
        )
    return reducer(obj)


def with_key(data: bytes) -> bytes:
    """The pickle, to be loaded where this process's key is known."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None:
        return data
    return pickle.dumps(_Keyed(bytes(process.current_process().authkey), data), _PROTOCOL)


class _Keyed:
    def __init__(self, key: bytes, data: bytes) -> None:
        self._parts = key, data

    def __reduce__(self) -> tuple[Any, ...]:
        return take, self._parts


def take(key: bytes, data: bytes) -> Any:
    """Load a pickle of `with_key`."""
    from multiprocessing.process import current_process

    if current_process().authkey != key:
        current_process().authkey = key
    return pickle.loads(data)
