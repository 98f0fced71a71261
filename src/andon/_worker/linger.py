"""To look for a moment, before one sleeps, whether what one waits for comes at once.

A core that nothing runs on falls asleep, and to wake it takes longer than all that a short call
takes, in its worker and in its caller: 20 to 50 µs each way, and more in a virtual machine. So
where one call is made at a time, each side lingers for its turn. Whoever else wants the core gets
it; and who waited in vain sleeps at once the next time, until it would have been worth it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")

LINGER = 0.0002  # seconds
WORTH = 0.0003  # that a wait may take and lingering would have been worth it: to wake is in it

clock = time.perf_counter  # `monotonic` ticks every 15 ms on some systems
# Whoever else wants this core has it first.
give_way: Callable[[], object] = getattr(os, "sched_yield", partial(time.sleep, 0))


def linger(come: Callable[[], T]) -> T:
    """What has `come`, within LINGER; else nothing. It is asked again and again, and does not
    wait."""
    end = clock() + LINGER
    while not (news := come()) and clock() < end:
        give_way()
    return news
