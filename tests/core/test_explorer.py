"""All orders of up to six events, in small worlds, against the contract's invariants.

Every state that can be reached is reached once, by a shortest way; from each of them, the world is
driven to its end, gently and cruelly. The checks themselves are in `model.py`.

`ANDON_EXPLORER_DEPTH=7` looks deeper: some two minutes in all, where six take 40 s.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from andon._core.table import GROUP_TABLE, TASK_TABLE
from tests.core.model import Choice, Plan, World

# The last test looks at what the others have found.
pytestmark = pytest.mark.together

DEEPER = int(os.environ.get("ANDON_EXPLORER_DEPTH", "0"))

_ONE = ((1, 1, None),)
_TWO = ((1, 1, None), (1, 1, None))
_THREE = ((1, 1, None), (1, 1, None), (1, 1, None))
_SPAN = ((1, 2, None),)
_LONG_SPAN = ((1, 3, None),)  # its rest is given back, and the rest of that

PLANS = [
    Plan("one task, everything", tasks=_ONE, wide=True,
         users=("leave 1", "halt 1", "soon 1", "cancel 1", "broke", "slots 0", "slots 1")),
    Plan("one task, asked again and again", tasks=_ONE,
         users=("leave 1", "soften 1", "halt 1", "halt! 1", "soon 1", "cancel 1", "cancel! 1")),
    Plan("one task, collect all, everything", (("all", None),), _ONE, wide=True,
         users=("leave 1", "halt 1", "soon 1", "cancel 1", "broke", "slots 0", "slots 2")),
    Plan("two tasks, two slots", tasks=_TWO, slots=2, wide=True,
         users=("leave 1", "halt 1", "cancel 1")),
    Plan("two tasks, two slots, soon", (("soon", None),), _TWO, slots=2,
         users=("leave 1", "halt 1", "soon 1", "cancel 1")),
    Plan("three tasks, one slot", tasks=_THREE, slots=1,
         users=("leave 1", "halt 1", "cancel 2", "cancel 3", "slots 2")),
    Plan("three tasks, two slots", tasks=_THREE, slots=2, users=("leave 1", "cancel 1", "halt! 1")),
    Plan("three tasks, two slots, soon", (("soon", None),), _THREE, slots=2,
         users=("leave 1", "halt 1", "cancel 2")),
    Plan("three tasks, two slots, collect all", (("all", None),), _THREE, slots=2,
         users=("leave 1", "soon 1", "cancel 1")),
    Plan("tasks that come late", tasks=_THREE, submitted=1, slots=2,
         users=("submit 2", "submit 3", "leave 1", "halt 1", "broke")),
    Plan("tasks that are cancelled before they come", tasks=_THREE, submitted=1, slots=2,
         users=("withdraw 2", "submit 3", "leave 1", "halt 1", "broke")),
    Plan("tasks that are cancelled before they come, soon", (("soon", None),), _THREE, submitted=1,
         users=("submit 2", "withdraw 3", "leave 1", "soon 1")),
    Plan("a span, everything", tasks=_SPAN, wide=True,
         users=("leave 1", "halt 1", "soon 1", "cancel 1", "broke")),
    Plan("a span, soon", (("soon", None),), _SPAN, wide=True,
         users=("leave 1", "halt 1", "soon 1", "cancel 1")),
    Plan("a span, collect all", (("all", None),), _SPAN, wide=True,
         users=("leave 1", "halt 1", "cancel 1", "slots 0", "slots 1")),
    Plan("a span and a task, two slots", tasks=((1, 2, None), (1, 1, None)), slots=2,
         users=("leave 1", "cancel 1")),
    Plan("a long span, two slots", tasks=_LONG_SPAN, slots=2,
         users=("leave 1", "cancel 1")),
    Plan("a long span, soon", (("soon", None),), _LONG_SPAN, slots=2,
         users=("leave 1", "halt 1")),
    Plan("a long span, collect all, one slot", (("all", None),), _LONG_SPAN, wide=True,
         users=("leave 1", "halt 1")),
    Plan("calls that travel together", tasks=_SPAN, wide=True,
         users=("leave 1", "item 1.0", "item 1.1", "halt 1")),
    Plan("three calls that travel together, two slots", (("all", None),), _LONG_SPAN, slots=2,
         users=("leave 1", "item 1.1", "item 1.2")),
    Plan("calls that wait together, and one before them", tasks=((1, 1, None), (1, 3, None)),
         users=("leave 1", "item 2.0", "item 2.1", "cancel 1")),
    Plan("calls that travel together, soon", (("soon", None),), _LONG_SPAN,
         users=("leave 1", "item 1.1", "soon 1")),
    Plan("calls that travel together, one before them, soon", (("soon", None),),
         ((1, 1, None), (1, 3, None)), slots=2, users=("leave 1", "item 2.0", "item 2.1")),
    Plan("a timeout, everything", tasks=((1, 1, 3.0),), wide=True,
         users=("leave 1", "halt 1", "soon 1", "cancel 1")),
    Plan("timeouts and a deadline", (("all", 4.0),), ((1, 1, 3.0), (1, 1, 5.0)), slots=2,
         users=("leave 1", "cancel 1")),
    Plan("a span with timeouts", (("all", None),), ((1, 2, 3.0),), wide=True,
         users=("leave 1", "halt 1", "cancel 1")),
    Plan("two groups, one slot", (("now", None), ("all", None)), ((1, 1, None), (2, 1, None)),
         users=("leave 1", "leave 2", "halt 1", "soon 2", "cancel 2", "broke")),
    Plan("two groups, two slots", (("now", None), ("soon", None)),
         ((1, 1, None), (2, 1, None), (1, 1, None)), slots=2,
         users=("leave 1", "leave 2", "halt 2")),
    Plan("two groups, two deadlines", (("now", 2.0), ("soon", 4.0)), ((1, 1, None), (2, 1, None)),
         slots=2, users=("leave 1", "leave 2", "halt 2")),
]  # fmt: skip


@dataclass
class Found:
    """What an exploration has seen."""

    states: int = 0
    events: int = 0
    rows: set[tuple[Any, Any]] = field(default_factory=set)


@functools.cache
def explore(plan: Plan) -> Found:
    """Visit every state within `plan.depth` events, level by level, so each one only once."""
    found = Found()
    start = World(plan)
    seen = {start.key()}
    ends: dict[bool, set[Any]] = {False: set(), True: set()}
    level = [start]
    depth = DEEPER or plan.depth
    for left in range(depth, 0, -1):
        below: list[World] = []
        for world in level:
            for choice in world.choices():
                found.events += 1
                child = world.clone()
                _try(child, choice, found.rows)
                key = child.key()
                if key in seen:
                    continue
                seen.add(key)
                _finish(child, key, ends, found.rows)
                if left > 1:
                    below.append(child)
        level = below
    found.states = len(seen)
    return found


def _try(world: World, choice: Choice, rows: set[tuple[Any, Any]]) -> None:
    try:
        world.take(choice)
    except Exception as error:
        error.add_note(f"{world.plan.name}, after: {world.path}")
        raise
    rows |= world.moves


def _finish(
    world: World, key: Any, ends: dict[bool, set[Any]], rows: set[tuple[Any, Any]]
) -> None:
    for cruel, known in ends.items():
        if key in known or not world.machine.groups:
            continue
        end = world.clone()
        try:
            end.finish(cruel=cruel, known=known)
        except Exception as error:
            error.add_note(f"{world.plan.name}, driven to its end after: {world.path}\n{end.path}")
            raise
        rows |= end.moves


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name.replace(" ", "-"))
def test_all_orders_of_up_to_six_events_keep_the_contract(plan: Plan) -> None:
    found = explore(plan)
    assert found.states > 100, "a world in which nothing happens proves nothing"


def rows_reached() -> set[tuple[Any, Any]]:
    """Every row of the two tables that some exploration used."""
    rows: set[tuple[Any, Any]] = set()
    for plan in PLANS:
        rows |= explore(plan).rows
    return rows


@pytest.mark.timeout(600)  # alone, it has to explore everything itself
def test_every_row_of_the_tables_is_reached_and_no_impossible_one() -> None:
    """A row that nothing reaches is a claim that nothing tests: strike it out, or reach it."""
    table: dict[Any, Any] = {**TASK_TABLE, **GROUP_TABLE}
    possible = {pair for pair, after in table.items() if after is not None}
    reached = rows_reached()
    assert reached <= possible
    assert possible - reached == set()
