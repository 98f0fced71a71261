"""What cannot travel fails alone, as a task (S28)."""

from __future__ import annotations

from collections.abc import Callable

from andon._engines.port import Call
from andon._runtime.groups import Group
from andon._runtime.tasks import Sink, Task
from andon._worker.context import InContext
from andon.errors import SerializationError, plain


def submit_items(
    group: Group, call: Call, sink: Callable[[Task], Sink], *, timeout: float | None
) -> None:
    """Submit a span of a map. Where an item cannot be pickled, each goes alone."""
    items = call.items
    assert items is not None
    try:
        group.runtime.submit(group, call, sink, size=len(items), timeout=timeout)
    except SerializationError as error:
        if len(items) == 1:
            submit_failure(group, error, call, sink)
        else:
            for number, item in enumerate(items, call.first):
                alone = Call(call.fn, items=[item], star=call.star, first=number)
                submit_items(group, alone, sink, timeout=timeout)


def submit_failure(
    group: Group, error: SerializationError, call: Call, sink: Callable[[Task], Sink]
) -> Task:
    """In place of a call that cannot be pickled: a task that raises why."""

    def shown(task: Task) -> Sink:
        task.call = call  # what the user asked for, in notes
        return sink(task)

    fail = InContext(_raise, [])  # in no context: a value of it may be what cannot travel
    for each in (error, plain(error)):
        try:
            return group.runtime.submit(group, Call(fail, items=[each]), shown)
        except SerializationError:  # the error is of a class that cannot travel, either
            continue
    raise error


def _raise(error: BaseException) -> None:
    raise error
