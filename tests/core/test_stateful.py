"""Long random runs of the machine, with virtual time, against the invariants in `model.py`.

`ANDON_STATEFUL_EXAMPLES=5000` runs more of them.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.core.model import Choice, Plan, World

GROUPS = st.sampled_from(["now", "soon", "all"])
SECONDS = st.one_of(st.none(), st.sampled_from([0.0, 1e-12, 0.5, 3.0, 40.0]))
SELDOM = st.sampled_from([False, False, False, True])
SIZES = st.sampled_from([1, 1, 1, 2, 3, 7])


class Runs(RuleBasedStateMachine):
    """A pool with many groups: anything that can legally come next may come."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Plan("random", groups=(), tasks=(), slots=2, users=(), wide=True))
        self.group = 0
        self.task = 0

    @initialize(slots=st.integers(0, 4))
    def begin(self, slots: int) -> None:
        self.world.take(("slots", slots))

    def take(self, verb: str, of: list[int], data: st.DataObject) -> None:
        self.world.take((verb, data.draw(st.sampled_from(of), label=verb)))

    def open(self) -> list[int]:
        return [n for n, view in self.world.groups.items() if not view.closed]

    def joinable(self) -> list[int]:
        return [n for n in self.open() if not self.world.groups[n].left]

    @rule(policy=GROUPS, deadline=SECONDS)
    def open_group(self, policy: str, deadline: float | None) -> None:
        self.group += 1
        self.world.open_group(self.group, policy, deadline)

    @precondition(lambda self: self.joinable())
    @rule(data=st.data(), size=SIZES, timeout=SECONDS, cancelled=SELDOM)
    def submit(
        self, data: st.DataObject, size: int, timeout: float | None, cancelled: bool
    ) -> None:
        self.task += 1
        group = data.draw(st.sampled_from(self.joinable()))
        self.world.submit(self.task, group, size, timeout, cancelled)

    @precondition(lambda self: self.joinable())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.take("leave", self.joinable(), data)

    @precondition(lambda self: self.world.groups)
    @rule(data=st.data(), verb=st.sampled_from(["halt", "halt!", "soften", "soon", "soon"]))
    def stop(self, data: st.DataObject, verb: str) -> None:
        self.take(verb, list(self.world.groups), data)  # of a closed group too: it comes late

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data(), verb=st.sampled_from(["cancel", "cancel!"]))
    def cancel(self, data: st.DataObject, verb: str) -> None:
        self.take(verb, list(self.world.tasks), data)

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data())
    def cancel_an_item(self, data: st.DataObject) -> None:
        view = data.draw(st.sampled_from(list(self.world.tasks.values())))
        if view.first < view.size:
            item = data.draw(st.integers(view.first, view.size - 1))
            self.world.take(("item", f"{view.sink}.{item}"))

    @rule(slots=st.integers(0, 4))
    def resize(self, slots: int) -> None:
        self.world.take(("slots", slots))

    @rule(really=st.integers(0, 19))
    def broke(self, really: int) -> None:
        if really == 0:  # seldom: nothing is sent afterwards
            self.world.take(("broke",))

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.machine.wake_at() is not None)
    @rule()
    def tick(self) -> None:
        self.world.take(("tick",))

    @precondition(lambda self: self.world.tries)
    @rule(data=st.data())
    def engine_reports(self, data: st.DataObject) -> None:
        self._report(data)

    # The engine is the likeliest to have news; a second rule doubles its share.
    @precondition(lambda self: self.world.tries)
    @rule(data=st.data())
    def engine_reports_again(self, data: st.DataObject) -> None:
        self._report(data)

    def _report(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(list(self.world.tries)))
        choices: list[Choice] = self.world._engine_choices(self.world.tries[attempt])
        self.world.take(data.draw(st.sampled_from(choices)))

    def teardown(self) -> None:
        """Wherever it has got to, it can be brought to its end (S21)."""
        self.world.clone().finish(cruel=True)
        self.world.finish()


Runs.TestCase.settings = settings(
    max_examples=int(os.environ.get("ANDON_STATEFUL_EXAMPLES", "150")),
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLongRandomRuns = pytest.mark.timeout(600)(Runs.TestCase)  # shrinking a failure takes minutes
