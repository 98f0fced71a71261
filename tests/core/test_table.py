"""The two tables are whole, and say nothing that never happens (S2)."""

from __future__ import annotations

from itertools import product

import pytest

from andon._core.machine import Machine
from andon._core.records import GroupRecord, TaskRecord
from andon._core.table import GROUP_TABLE, IMPOSSIBLE, TASK_TABLE, GroupTrigger, TaskTrigger
from andon.errors import InternalError
from andon.outcome import GroupState, TaskState
from andon.policy import fail_fast

# "Every possible row is reached, no impossible one is" stands in test_explorer.py, whose
# explorations answer it.


def test_each_state_and_trigger_of_a_task_is_spelt_out() -> None:
    assert set(TASK_TABLE) == set(product(TaskState, TaskTrigger))


def test_each_state_and_trigger_of_a_group_is_spelt_out() -> None:
    assert set(GROUP_TABLE) == set(product(GroupState, GroupTrigger))


@pytest.mark.parametrize("trigger", TaskTrigger)
def test_a_task_never_leaves_its_final_state(trigger: TaskTrigger) -> None:
    for state in TaskState:
        if state.final:
            assert TASK_TABLE[state, trigger] is IMPOSSIBLE


@pytest.mark.parametrize("trigger", GroupTrigger)
def test_a_closed_group_never_opens(trigger: GroupTrigger) -> None:
    assert GROUP_TABLE[GroupState.CLOSED, trigger] is IMPOSSIBLE


def test_outcomes_are_reached_by_their_own_trigger_alone() -> None:
    ends = {
        TaskTrigger.SUCCEED: TaskState.SUCCEEDED,
        TaskTrigger.FAIL: TaskState.FAILED,
        TaskTrigger.CANCEL: TaskState.CANCELLED,
    }
    for (_, trigger), after in TASK_TABLE.items():
        if after is not IMPOSSIBLE:
            assert after is ends[trigger] if after.final else trigger not in ends


def test_s9_no_row_softens_a_group() -> None:
    rank = [
        GroupState.OPEN,
        GroupState.JOINING,
        GroupState.DRAINING,
        GroupState.CANCELLING,
        GroupState.CLOSED,
    ].index
    for (before, _), after in GROUP_TABLE.items():
        assert after is IMPOSSIBLE or rank(after) >= rank(before)


def _impossible_rows() -> list[tuple[TaskState, TaskTrigger]]:
    return [pair for pair, after in TASK_TABLE.items() if after is IMPOSSIBLE]


@pytest.mark.parametrize(
    ("state", "trigger"), _impossible_rows(), ids=lambda word: word.value.replace(" ", "-")
)
def test_s2_an_impossible_row_is_an_internal_error_with_the_story(
    state: TaskState, trigger: TaskTrigger
) -> None:
    machine = Machine()
    task = TaskRecord(7, GroupRecord(1, fail_fast(), 5.0, 2.0, None), 0, 1, None, state)
    with pytest.raises(InternalError, match="task 7") as caught:
        machine._move(task, trigger)
    assert caught.value.story[-1][4:] == (state, trigger)
    assert task.state is state


@pytest.mark.parametrize(
    ("state", "trigger"),
    [pair for pair, after in GROUP_TABLE.items() if after is IMPOSSIBLE],
    ids=lambda word: word.value.replace(" ", "-"),
)
def test_s2_an_impossible_row_of_a_group_is_an_internal_error(
    state: GroupState, trigger: GroupTrigger
) -> None:
    group = GroupRecord(3, fail_fast(), 5.0, 2.0, None, state)
    with pytest.raises(InternalError, match="group 3"):
        Machine()._move_group(group, trigger)
    assert group.state is state
