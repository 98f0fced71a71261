"""Moves over the two tables, and the story that is told of them when something is wrong."""

from __future__ import annotations

from collections import deque
from typing import Any

from andon._core.actions import Action, Trace
from andon._core.records import GroupRecord, TaskRecord
from andon._core.table import GROUP_TABLE, TASK_TABLE, GroupTrigger, TaskTrigger
from andon.errors import InternalError
from andon.outcome import Reason

_STORY_LENGTH = 1000


class Moves:
    """What the machine is built on: every change of a state goes through here (S2)."""

    def __init__(self, *, tracing: bool) -> None:
        self.tracing = tracing
        self._now = 0.0
        self._out: list[Action] = []
        self._story: deque[tuple[Any, ...]] = deque(maxlen=_STORY_LENGTH)

    def _move(self, task: TaskRecord, trigger: TaskTrigger) -> None:
        before = task.state
        after = TASK_TABLE[before, trigger]
        self._story.append((self._now, "task", task.id, task.attempt, before, trigger))
        if after is None:
            raise self._bug(task, f"task {task.id} is {before}: it cannot {trigger.value}")
        task.state = after
        if self.tracing and before is not after:
            where = task.group.id, task.id, task.index, task.attempt
            self._out.append(Trace(self._now, *where, before, after, trigger.value))

    def _move_group(
        self, group: GroupRecord, trigger: GroupTrigger, why: Reason | None = None
    ) -> None:
        before = group.state
        after = GROUP_TABLE[before, trigger]
        self._story.append((self._now, "group", group.id, None, before, trigger))
        if after is None:
            raise self._wrong(f"group {group.id} is {before}: it cannot {trigger.value}")
        group.state = after
        if self.tracing and (before is not after or why is not None):  # later reasons too (S8)
            cause = trigger.value if why is None else str(why)
            self._out.append(Trace(self._now, group.id, None, None, None, before, after, cause))

    def _wrong(self, message: str) -> InternalError:
        return InternalError(message, story=tuple(self._story))

    def _bug(self, task: TaskRecord, message: str) -> InternalError:
        story = tuple(line for line in self._story if line[2] == task.id and line[1] == "task")
        told = "\n".join(f"  {at:.6f} attempt {a}: {s} {t.value}" for at, _, _, a, s, t in story)
        return InternalError(f"{message}\nthe story of task {task.id}:\n{told}", story=story)
