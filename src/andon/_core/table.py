"""The two tables: every transition there is. A pair that is not in them is a bug (S2).

`IMPOSSIBLE` says that the pair cannot arise; the machine raises `InternalError` if it does.
`tests/core/test_table.py` checks that every pair is spelt out, and the explorer that none of the
impossible ones is ever reached.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from andon.outcome import GroupState, TaskState


class TaskTrigger(Enum):
    """What can befall a task."""

    __hash__ = object.__hash__  # as fast as the tables need it; Enum's is written in Python

    SEND = "send"  #            given to the engine
    START = "start"  #          seen running
    ASK_STOP = "ask to stop"  # by its group, its owner or its timeout
    GIVE_BACK = "give back"  #  its unstarted items return to the queue
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"  #        ended by a stop, or never started


class GroupTrigger(Enum):
    """What can befall a group."""

    __hash__ = object.__hash__

    LEAVE = "body left"
    DRAIN = "drain"
    CANCEL = "cancel"
    CLOSE = "close"


IMPOSSIBLE: Final = None

_P, _T, _R, _S = TaskState.PENDING, TaskState.SENT, TaskState.RUNNING, TaskState.STOPPING
_OK, _NO, _CX, _AB = (
    TaskState.SUCCEEDED,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.ABANDONED,
)
_t = TaskTrigger

# A task that is asked to stop while the engine has it is STOPPING whether or not it has begun: the
# parent cannot know which, and its outcome will say (`started`, S13).
TASK_TABLE: Final[dict[tuple[TaskState, TaskTrigger], TaskState | None]] = {
    (_P, _t.SEND): _T,
    (_P, _t.START): IMPOSSIBLE,
    (_P, _t.ASK_STOP): IMPOSSIBLE,  # it is cancelled at once
    (_P, _t.GIVE_BACK): IMPOSSIBLE,
    (_P, _t.SUCCEED): IMPOSSIBLE,
    (_P, _t.FAIL): _NO,  # a span of which an item failed; the rest came back, and is cancelled
    (_P, _t.CANCEL): _CX,
    (_T, _t.SEND): IMPOSSIBLE,
    (_T, _t.START): _R,
    (_T, _t.ASK_STOP): _S,
    (_T, _t.GIVE_BACK): _P,
    (_T, _t.SUCCEED): IMPOSSIBLE,  # it has started first
    (_T, _t.FAIL): _NO,  # unpickling its arguments failed, or killed the worker
    (_T, _t.CANCEL): _CX,  # a draining group's, never begun
    (_R, _t.SEND): IMPOSSIBLE,
    (_R, _t.START): _R,
    (_R, _t.ASK_STOP): _S,
    (_R, _t.GIVE_BACK): _P,  # the rest of a span whose worker died or left
    (_R, _t.SUCCEED): _OK,
    (_R, _t.FAIL): _NO,
    (_R, _t.CANCEL): _CX,  # the rest of a span in a draining group
    (_S, _t.SEND): IMPOSSIBLE,
    (_S, _t.START): _S,
    (_S, _t.ASK_STOP): _S,  # hardens (S9)
    (_S, _t.GIVE_BACK): _P,  # the rest of a span of which one item timed out
    (_S, _t.SUCCEED): _OK,  # S34
    (_S, _t.FAIL): _NO,  # S33
    (_S, _t.CANCEL): _CX,
    **{(final, trigger): IMPOSSIBLE for final in (_OK, _NO, _CX, _AB) for trigger in TaskTrigger},
}

_g = GroupTrigger
_G = GroupState
GROUP_TABLE: Final[dict[tuple[GroupState, GroupTrigger], GroupState | None]] = {
    (_G.OPEN, _g.LEAVE): _G.JOINING,
    (_G.OPEN, _g.DRAIN): _G.DRAINING,
    (_G.OPEN, _g.CANCEL): _G.CANCELLING,
    (_G.OPEN, _g.CLOSE): IMPOSSIBLE,
    (_G.JOINING, _g.LEAVE): IMPOSSIBLE,
    (_G.JOINING, _g.DRAIN): _G.DRAINING,
    (_G.JOINING, _g.CANCEL): _G.CANCELLING,
    (_G.JOINING, _g.CLOSE): _G.CLOSED,
    (_G.DRAINING, _g.LEAVE): _G.DRAINING,
    (_G.DRAINING, _g.DRAIN): _G.DRAINING,
    (_G.DRAINING, _g.CANCEL): _G.CANCELLING,  # escalation only hardens (S9)
    (_G.DRAINING, _g.CLOSE): _G.CLOSED,
    (_G.CANCELLING, _g.LEAVE): _G.CANCELLING,
    (_G.CANCELLING, _g.DRAIN): _G.CANCELLING,
    (_G.CANCELLING, _g.CANCEL): _G.CANCELLING,
    (_G.CANCELLING, _g.CLOSE): _G.CLOSED,
    **{(_G.CLOSED, trigger): IMPOSSIBLE for trigger in GroupTrigger},
}
