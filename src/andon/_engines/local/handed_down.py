"""What workers of the `fork` start method inherit, and need not be sent: the initializer with its
arguments, and what is of `__main__`."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

from andon._engines.local.packing import Packer
from andon._engines.port import Config
from andon._pickling import PROTOCOL
from andon._worker.inherited import take_inherited

_keys = itertools.count(1)


class _Inherited:
    """Stands in a pickle for an object that the other side has inherited."""

    def __init__(self, key: int) -> None:
        self._key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return take_inherited, (self._key,)


def pack_initializer(config: Config, packer: Packer, inherit: dict[int, Any]) -> bytes | None:
    """What every worker runs first. What is to be handed down is put into `inherit`."""
    if config.initializer is None:
        return None
    pair = config.initializer, config.initargs
    if config.start_method != "fork":
        return packer.initializer(*pair)
    # As `multiprocessing`'s, it need not be picklable there, and locks and queues of the default
    # context may be among the arguments.
    key = next(_keys)
    inherit[key] = pair
    return pickle.dumps(_Inherited(key), PROTOCOL)
