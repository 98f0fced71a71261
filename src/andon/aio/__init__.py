"""andon for asyncio: a scope whose tasks run in processes, and in the loop beside them.

async with andon.aio.TaskGroup(workers=4) as tg:
    result = await tg.run(work, 7)
"""

from __future__ import annotations

from andon.aio.futures import Future
from andon.aio.taskgroup import TaskGroup

__all__ = ["Future", "TaskGroup"]
