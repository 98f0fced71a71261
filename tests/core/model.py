"""The machine in a small world: a model engine that answers legally, and what must hold throughout.

A `World` is one machine, its users and its engine. `choices()` lists every event that could come
next; `take(choice)` lets it come and checks all that the contract promises about the answer. The
engine of the model knows nothing of processes: it knows which attempts it holds and which words
and orders it was given, and from that what a real engine could truthfully report next.

Beginnings are not tracked: of an item that is with the engine nobody can say whether it has begun,
unless the engine has said so. A report may therefore be late (its item ended before the stop that
the machine has meanwhile decided), which covers the races between frames, words and kills.

An engine may give back what it has not begun of a span, whether or not the machine has use for it
any more, and does not begin it afterwards. Of a span and its parts together holds what holds of a
task: a group's `items` are the one list of all outcomes. Where it gives back it is at the item
before: what it has begun earlier has ended, though its report may be on the way.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

from andon._core import actions as ac
from andon._core import events as ev
from andon._core.events import Tally
from andon._core.machine import Machine
from andon._core.records import GroupRecord, TaskRecord
from andon.outcome import GroupState, ReasonKind, StoppedBy, TaskState, Verdict
from andon.policy import Policy, collect_all, fail_fast
from andon.testing.clock import VirtualClock

Choice = tuple[Any, ...]

GRACE, KILL_AFTER = 5.0, 2.0
POLICIES: dict[str, Policy] = {
    "now": fail_fast(),
    "soon": fail_fast("soon"),
    "all": collect_all(),
}
_RANK = {
    GroupState.OPEN: 0,
    GroupState.JOINING: 1,
    GroupState.DRAINING: 2,
    GroupState.CANCELLING: 3,
    GroupState.CLOSED: 4,
}

# What a copy of a machine has to copy; `clone_machine` refuses a machine that has grown a field.
_MACHINE_FIELDS = {
    "tracing", "slots", "broken", "groups", "_tasks", "_attempts", "_ready", "_timers",
    "_next_attempt", "_next_part", "_now", "_story", "_out", "_handlers", "wake_at",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A small world to explore.

    `groups`: (policy, deadline or None). `tasks`: (group, size, timeout or None), numbered from 1;
    the first `submitted` of them are there from the start, the others may come at any time.
    `users`: names of what users may do, each once for each time it is named.
    `wide`: let the engine report everything that it could, not only the most telling cases.
    """

    name: str
    groups: tuple[tuple[str, float | None], ...] = (("now", None),)
    tasks: tuple[tuple[int, int, float | None], ...] = ((1, 1, None),)
    submitted: int = 99
    slots: int = 1
    users: tuple[str, ...] = ("leave 1",)
    wide: bool = False
    depth: int = 6


@dataclass(slots=True, eq=False)
class Try:
    """An attempt that the engine holds; `cur` is the item that it will report next, and `lo` the
    first."""

    id: int
    task: int
    group: int
    lo: int
    cur: int
    hi: int
    fatal: bool
    begun: bool = False  #        the engine has said that item `cur` runs
    told: bool = False  #         a word or an order tells it to stop
    killable: bool = False  #     the ladder runs: the engine may kill
    failing: bool = False  #      item `cur` has pulled the cord; its report is on the way
    asked_first: bool = False  #  its owner had asked before it pulled the cord
    cause: str | None = None  #   who asked first: "timeout", "owner", "group"
    soon: bool = False  #         it was asked where it is, and has not said it yet
    at: int = 0  #                it is there, or further


@dataclass(slots=True, eq=False)
class GroupView:
    """What the world was told about a group."""

    policy: str
    left: bool = False
    pulled: bool = False
    closed: bool = False
    reason: Any = None
    verdict: Any = None
    drained: bool = False  # the engine was asked for what has not begun
    rank: int = 0
    grace: float = GRACE
    kill_after: float = KILL_AFTER
    items: list[TaskState | None] = field(default_factory=list)  # outcomes; None: none yet


@dataclass(slots=True, eq=False)
class TaskView:
    """What the world was told about a task, or a part of one: its items from `first` on belong to
    it, and the first `done` of all have their outcome."""

    id: int
    group: int
    index: int
    size: int
    timeout: float | None
    sink: int  # the task of whose items it is told
    first: int = 0
    done: int = 0
    step: int = 1 << 62  # items that an attempt is given at most
    over: bool = False
    owner_asked: bool = False


_COPIED = (Try, GroupView, TaskView, TaskRecord, GroupRecord)
_VALUES = {kind: attrgetter(*(f.name for f in fields(kind))) for kind in _COPIED}


def _copy(source: Any) -> Any:
    kind = type(source)
    return kind(*_VALUES[kind](source))


def _copy_tally(source: Tally) -> Tally:
    tally = Tally()
    tally.submitted, tally.closed = source.submitted, source.closed
    tally.succeeded, tally.failed = source.succeeded, source.failed
    tally.cancelled, tally.abandoned = source.cancelled, source.abandoned
    return tally


def clone_machine(old: Machine) -> Machine:
    """A copy, quicker than `copy.deepcopy`. Its story is empty, so it tells its own moves alone."""
    assert vars(old).keys() == _MACHINE_FIELDS, "the machine has grown a field: copy it here"
    new = Machine(tracing=old.tracing)
    new.slots, new.broken = old.slots, old.broken
    new._next_attempt, new._next_part = old._next_attempt, old._next_part
    new._now = old._now
    new._timers._heap, new._timers._count = list(old._timers._heap), old._timers._count
    tasks: dict[int, TaskRecord] = {}
    for group in old.groups.values():
        copied = _copy(group)
        copied.stats = _copy_tally(group.stats)
        copied.pending, copied.live = OrderedDict(), {}
        for source, target in ((group.pending, copied.pending), (group.live, copied.live)):
            for key, task in source.items():
                twin = target[key] = tasks[task.id] = _copy(task)
                twin.group = copied
        new.groups[group.id] = copied
    new._tasks = {ident: tasks[ident] for ident in old._tasks}
    new._attempts = {attempt: tasks[task.id] for attempt, task in old._attempts.items()}
    new._ready = OrderedDict((ident, new.groups[ident]) for ident in old._ready)
    return new


class World:
    """See the head of this file."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.machine = Machine()
        self.clock = VirtualClock(100.0)
        self.tries: dict[int, Try] = {}
        self.groups: dict[int, GroupView] = {}
        self.tasks: dict[int, TaskView] = {}
        self.todo = list(plan.users)
        self.looks: set[int] = set()
        self.next_index: dict[int, int] = {}
        self.asked: set[tuple[int, int]] = set()  # single items whose owner asked: (sink, item)
        self.path: tuple[Choice, ...] = ()
        self.moves: set[tuple[Any, Any]] = set()  # rows of the tables used since it was cloned
        self._handle(ev.SlotsChanged(plan.slots))
        for number, (policy, deadline) in enumerate(plan.groups, 1):
            self.open_group(number, policy, deadline)
        for number in range(1, min(len(plan.tasks), plan.submitted) + 1):
            self.take(("submit", number))
        self.path = ()

    @property
    def now(self) -> float:
        return self.clock.now()

    def clone(self) -> World:
        new = World.__new__(World)
        new.plan, new.path = self.plan, self.path
        new.clock = VirtualClock(self.now)
        new.machine = clone_machine(self.machine)
        new.tries = {key: _copy(value) for key, value in self.tries.items()}
        new.groups = {key: _copy(value) for key, value in self.groups.items()}
        for view in new.groups.values():
            view.items = list(view.items)
        new.tasks = {key: _copy(value) for key, value in self.tasks.items()}
        new.todo, new.looks = list(self.todo), set(self.looks)
        new.next_index, new.moves = dict(self.next_index), set()
        new.asked = set(self.asked)
        return new

    def key(self) -> Any:
        """Two worlds with the same key have the same futures: no past, no absolute time."""
        now = self.now
        rank = {attempt: n for n, attempt in enumerate(sorted(self.tries))}
        m = self.machine
        groups = tuple(
            (
                g.id, g.state, g.body_left, g.reason and (g.reason.kind, g.reason.source),
                g.grace, g.kill_after, None if g.deadline is None else g.deadline - now,
                tuple(g.pending), tuple(rank[a] for a in g.live),
                g.stats.submitted, g.stats.succeeded, g.stats.failed, g.stats.cancelled,
            )
            for g in m.groups.values()
        )  # fmt: skip
        records = [t for g in m.groups.values() for t in (*g.pending.values(), *g.live.values())]
        tasks = tuple(
            (
                t.id, t.state, t.attempt and rank[t.attempt], t.lo, t.hi, t.size, t.step,
                t.begun_from, t.failed, t.cancelled, t.stop_cause, t.cancel_from, t.failing,
                t.cancels,
                None if t.check_at is None else t.check_at - now,
            )
            for t in sorted(records, key=lambda t: t.id)
        )  # fmt: skip
        tries = tuple(
            (
                rank[t.id], t.task, t.cur, t.hi, t.begun, t.told, t.killable, t.failing,
                t.asked_first, t.cause, t.soon, t.at, t.id in self.looks,
            )
            for t in self.tries.values()
        )  # fmt: skip
        views = tuple((g.closed, g.left, g.pulled) for g in self.groups.values())
        done = tuple((t.id, t.owner_asked, t.over) for t in self.tasks.values())
        ready = tuple(m._ready)
        broken = m.broken is not None
        asked = tuple(sorted(self.asked))
        return (groups, tasks, tries, views, done, ready, m.slots, broken, tuple(self.todo), asked)

    # What could come next ------------------------------------------------------------------------

    def choices(self) -> list[Choice]:
        found = self._user_choices()
        for attempt in list(self.tries.values()):
            found += self._engine_choices(attempt)
        if self.machine.wake_at() is not None:
            found.append(("tick",))
        return found

    def _user_choices(self) -> list[Choice]:
        found: list[Choice] = []
        for name in dict.fromkeys(self.todo):
            verb, _, number = name.partition(" ")
            if verb == "item":
                if int(number.partition(".")[0]) in self.tasks:
                    found.append((verb, number))
                continue
            subject = int(number) if number else 0
            if verb in ("cancel", "cancel!"):
                if subject in self.tasks:
                    found.append((verb, subject))
            elif verb in ("submit", "withdraw"):
                task_group = self.plan.tasks[subject - 1][0]
                view = self.groups[task_group]
                if not view.left and subject not in self.tasks:
                    found.append((verb, subject))
            elif verb in ("slots", "broke", "leave") or not self.groups[subject].closed:
                found.append((verb, subject))
        return found

    def _engine_choices(self, t: Try) -> list[Choice]:
        a, found, wide = t.id, [], self.plan.wide
        if a in self.looks:
            if t.cur < t.hi:
                found += [("look", a, "fresh"), ("look", a, "expired")]
            elif wide:
                found.append(("look", a, "late"))
        for index in range(max(t.cur, t.at) + 1, t.hi + t.soon):
            found.append(("give", a, index))
        if wide and self.tasks[t.task].size > 1:
            found.append(("give", a, t.cur))  # it has ended meanwhile
        if t.cur == t.hi:  # all is reported: only the attempt's own end is missing
            found.append(("end", a))
            if wide:
                found.append(("die", a, None, False))
                if t.killable:
                    found.append(("kill", a, None, False))
            return found
        if t.cur < t.at:  # it is further already: only its reports are late
            found.append(("fail", a, True))
            return found if t.failing else [*found, ("succeed", a, 1)]  # not the last
        if t.failing:
            found += [("fail", a, True), ("die", a, t.cur, True)]
            if t.killable:
                found.append(("kill", a, t.cur, True))
                if wide:
                    found.append(("kill", a, None, None))
            return found
        group = self.groups[t.group]
        found += [("succeed", a, 1), ("fail", a, True), ("die", a, t.cur, True)]
        if t.hi - t.cur > 1:
            found.append(("succeed", a, 2))
        for count in range(1, min(t.hi - t.cur, 2) + 1):  # what is left never started
            found.append(("succeed", a, count, "last"))
        if t.fatal and not group.pulled:
            found.append(("cord", a))
        if wide and not group.pulled:
            found.append(("pull", a))
        if wide:
            found.append(("die", a, None, None))
        if t.told:
            # A row says "running" before the last look at the word (S12): begun, and yet not.
            found += [("stop", a, True), ("stop", a, False)]
        if t.killable:
            found.append(("kill", a, t.cur, True))
            if wide:
                found.append(("kill", a, None, None))
        if not t.begun:
            found.append(("end", a))
            if wide:
                found += [("fail", a, False), ("die", a, t.cur, False), ("die", a, None, False)]
            if t.killable and wide:
                found.append(("kill", a, t.cur, False))
        return found

    # Letting it come -----------------------------------------------------------------------------

    def open_group(self, number: int, policy: str, deadline: float | None) -> None:
        at = None if deadline is None else self.now + deadline
        self.groups[number] = GroupView(policy)
        self.next_index[number] = 0
        self._handle(ev.GroupOpened(number, POLICIES[policy], at, GRACE, KILL_AFTER))

    def submit(
        self,
        number: int,
        group: int,
        size: int,
        timeout: float | None,
        cancelled: bool = False,
    ) -> None:
        index = self.next_index[group]
        self.next_index[group] += size
        view = TaskView(number, group, index, size, timeout, number, owner_asked=cancelled)
        self.tasks[number] = view
        self.groups[group].items += [None] * size
        self.machine.groups[group].stats.submitted += size
        self._handle(ev.Submitted(group, number, index, size, timeout, cancelled))
        if cancelled:
            assert view.over and {*self.groups[group].items[index:]} == {TaskState.CANCELLED}, "S35"

    def take(self, choice: Choice) -> None:
        """Let one event come, and check the answer."""
        self.path = (*self.path, choice)
        name, *rest = choice
        if name in (
            "look", "succeed", "fail", "stop", "die", "kill", "end", "give", "cord", "pull",
        ):  # fmt: skip
            self._take_from_engine(name, self.tries[rest[0]], rest[1:])
            return
        spelt = f"{name} {rest[0]}" if rest and rest[0] else name
        if spelt in self.todo:
            self.todo.remove(spelt)
        if name == "submit":
            self.submit(rest[0], *self.plan.tasks[rest[0] - 1])
        elif name == "withdraw":  # cancelled while it waited elsewhere
            self.submit(rest[0], *self.plan.tasks[rest[0] - 1], cancelled=True)
        elif name == "leave":
            if not self.groups[rest[0]].closed:
                self.groups[rest[0]].left = True
                self._handle(ev.BodyLeft(rest[0]))
        elif name == "halt":
            self._handle(ev.StopAsked(rest[0], ReasonKind.CANCEL, "enough"))
        elif name == "halt!":
            self._handle(ev.StopAsked(rest[0], ReasonKind.INTERRUPT, "", grace=0.0, kill_after=0.0))
        elif name == "soften":  # asks for more grace than there is, which must not be given (S9)
            self._handle(ev.StopAsked(rest[0], ReasonKind.BODY, "", grace=99.0, kill_after=99.0))
        elif name == "soon":
            self._handle(ev.StopAsked(rest[0], ReasonKind.SHUTDOWN, "", soon=True))
        elif name in ("cancel", "cancel!"):
            task = self.tasks[rest[0]]
            task.owner_asked = task.owner_asked or not task.over
            hard = 0.0 if name == "cancel!" else None
            self._handle(ev.TaskCancelAsked(rest[0], hard, hard))
        elif name == "item":
            sink, item = map(int, rest[0].split("."))
            part = next(v for v in self.tasks.values() if v.sink == sink and item < v.size
                        and item >= v.first)  # fmt: skip
            if item >= part.done:
                self.asked.add((sink, item))
            self._handle(ev.TaskCancelAsked(part.id, item=item))
        elif name == "slots":
            self._handle(ev.SlotsChanged(rest[0]))
        elif name == "broke":
            self._handle(ev.Broke("no worker starts", "the error"))
        elif name == "tick":
            at = self.machine.wake_at()
            assert at is not None
            self.clock.advance_to(max(self.now, at))
            self._handle(ev.Ticked())
            due = self.machine.wake_at()
            assert due is None or due > self.now, "a timer that is due at once, for ever"
        else:
            raise AssertionError(choice)

    def _take_from_engine(self, name: str, t: Try, rest: list[Any]) -> None:
        item, payload = t.cur, object()
        if name == "look":
            (kind,) = rest
            self.looks.discard(t.id)
            if kind == "late":
                self._handle(ev.Started(t.id, item - 1, self.now))
                return
            t.begun = True
            timeout = self.tasks[t.task].timeout
            assert timeout is not None
            # A little more than expired: sums of floats may round either way.
            at = self.now - (timeout + 1e-6 if kind == "expired" else timeout / 2)
            told = t.told
            self._handle(ev.Started(t.id, item, at))
            assert kind == "fresh" or told or t.cause == "timeout", "S29: it has expired"
            return
        if name in ("cord", "pull"):
            kind = ReasonKind.FAILURE if name == "cord" else ReasonKind.CANCEL
            if name == "cord":
                t.failing = t.begun = True
                t.asked_first = self.tasks[t.task].owner_asked
            self._handle(ev.Cord(t.group, t.id, kind, "by a task", item))
            return
        if name == "succeed":
            count, *last = rest
            t.cur += count
            t.begun = False
            if last:
                self._back(t, count)
            event = ev.Succeeded(t.id, item, payload, count, bool(last))
            actions = self._handle(event, reporting=t)
            self._expect(actions, t, item, TaskState.SUCCEEDED, payload, count)
        elif name == "fail":
            (started,) = rest
            t.cur += 1
            failing, t.failing, t.begun = t.failing, False, False
            failed = ev.Failed(t.id, item, payload, started)
            actions = self._handle(failed, reporting=t, failing=failing)
            self._expect(actions, t, item, TaskState.FAILED, payload)
        elif name == "stop":
            (started,) = rest
            by = StoppedBy.NEVER_STARTED
            if started:
                by = StoppedBy.INTERRUPT if item % 2 else StoppedBy.TOKEN
            event_ = ev.Stopped(t.id, item, by, started, payload)
            if t.cause == "timeout" and not started:
                assert not any(type(x) is ac.Resolve for x in self._handle(event_, reporting=t))
                return
            t.cur += 1
            t.begun = False
            actions = self._handle(event_, reporting=t)
            state = TaskState.FAILED if t.cause == "timeout" else TaskState.CANCELLED
            self._expect(actions, t, item, state, payload)
        elif name == "give":
            self._give_back(t, *rest)
        elif name == "end":
            self._back(t)
            self._handle(ev.AttemptEnded(t.id))
            assert self._handle(ev.GivenBack(t.id, item + 1)) == [], "it came late"
        else:
            index, started = rest
            ordered = name == "kill"
            reported = t.cur == t.hi
            self._back(t)
            event__ = ev.Died(t.id, ordered, index, started, payload)
            actions = self._handle(event__, reporting=t, failing=t.failing)
            if reported:
                return
            if ordered and not t.failing:
                if t.cause != "timeout":
                    self._expect(actions, t, item, TaskState.CANCELLED, payload)
                elif started is not False:
                    self._expect(actions, t, item, TaskState.FAILED, payload)
            elif index is not None or started is not False:
                resolve = self._expect(actions, t, item, TaskState.FAILED, payload)
                assert resolve.dead, "S25"

    def _back(self, t: Try, told: int = 0) -> None:
        """What it did not begin goes back to the queue, as parts for two workers at least; so many
        items are told of with it."""
        del self.tries[t.id]
        self.looks.discard(t.id)
        task = self.tasks[t.task]
        task.step = min(2 * task.step, (task.size - task.done - told + 1) // 2)

    def _give_back(self, t: Try, index: int) -> None:
        task, view = self.tasks[t.task], self.groups[t.group]
        end, whole = t.hi, task.size
        late = not t.cur < index <= end or task.owner_asked or view.pulled
        late = late or t.cause is not None
        drains = view.reason is not None
        if t.cur < index <= end:
            t.hi, t.at, t.soon = index, index - 1, False
        actions = self._handle(ev.GivenBack(t.id, index))
        if late:
            assert actions == [], "S12: it came late, or what is given back must not start"
            return
        stops = [a for a in actions if type(a) is ac.StopAttempt]
        if (task.sink, index - 1) in self.asked:
            assert [(a.attempt, a.soon) for a in stops] == [(t.id, False)], "S35"
        else:
            assert stops == [], "S35: nobody asked for this one"
        if drains:
            assert actions == stops, "S12: what is given back must not start"
        if index == end or drains:
            return
        split = actions[0]
        assert type(split) is ac.Split and split.task == t.task, split
        part = self.tasks[split.part]
        assert (part.first, task.size) == (index, index) and part.size <= whole, "S4"

    def _expect(
        self, actions: list[ac.Action], t: Try, item: int, state: TaskState, payload: Any,
        count: int = 1,
    ) -> ac.Resolve:  # fmt: skip
        """The outcome is what happened (S3): what the engine reported, and nothing else."""
        mine = [a for a in actions if type(a) is ac.Resolve and a.task == t.task]
        first = mine[0]
        assert (first.index, first.count, first.state) == (item, count, state), first
        assert first.payload is payload
        for other in mine[1:]:  # the rest that never began may follow in the same breath
            assert other.state is TaskState.CANCELLED and other.started is False, other
        return first

    # Checking ------------------------------------------------------------------------------------

    def _handle(
        self, event: ev.Event, *, reporting: Try | None = None, failing: bool = False
    ) -> list[ac.Action]:
        machine = self.machine
        machine._story.clear()
        pulled_before = {number for number, g in self.groups.items() if g.pulled}
        actions = machine.handle(event, self.now)
        self.moves |= {(before, trigger) for _, _, _, _, before, trigger in machine._story}
        told: set[int] = set()  # groups of whose end or stop something was told in this answer
        for at, action in enumerate(actions):
            match action:
                case ac.Resolve():
                    told.add(self.tasks[action.task].group)
                    self._resolved(action, pulled_before, reporting, failing)
                case ac.Send():
                    self._sent(action)
                case ac.Split():
                    self._split(action, event, actions[at + 1 :])
                case ac.PullWord():
                    view = self.groups[action.group]
                    assert action.group not in told, "S6: the word comes before all that is told"
                    assert not view.pulled and not view.closed
                    assert view.reason is None or view.reason is action.reason, "S8"
                    view.pulled = True
                    self._tell(action.group)
                case ac.GroupStopping():
                    told.add(action.group)
                    view = self.groups[action.group]
                    assert view.reason is None and not view.closed, "decided once"
                    view.reason, view.verdict = action.reason, action.verdict
                case ac.StopGroup():
                    view = self.groups[action.group]
                    assert view.reason is not None and not view.closed
                    # Without the word nothing that runs is stopped: then it drains.
                    assert view.pulled is not action.soon, "port: the word is already set"
                    if action.soon:
                        view.drained = True
                        continue
                    assert action.grace <= view.grace, "S9"
                    assert action.kill_after <= view.kill_after, "S9"
                    view.grace, view.kill_after = action.grace, action.kill_after
                    for t in self.tries.values():
                        if t.group == action.group:
                            t.killable = t.told = True
                            t.cause = t.cause or "group"
                case ac.StopAttempt():
                    t = self.tries[action.attempt]
                    if action.soon:
                        t.soon = True
                        continue
                    t.killable = t.told = True
                    cause = "timeout" if type(event) is ev.Started else "owner"
                    t.cause = t.cause or cause
                case ac.Look():
                    t = self.tries[action.attempt]
                    assert t.cur < t.hi, "there is nothing to look at"
                    self.looks.add(action.attempt)
                case ac.GroupClosed():
                    self._closed(action)
                case _:
                    raise AssertionError(action)
        self._check_state()
        return actions

    def _tell(self, group: int) -> None:
        for t in self.tries.values():
            if t.group == group:
                t.told = True

    def _sent(self, a: ac.Send) -> None:
        view, task = self.groups[a.group], self.tasks[a.task]
        assert view.reason is None and not view.pulled and not view.closed, "S12"
        assert not task.owner_asked, "S35: it was asked to stop"
        assert a.lo == task.done and a.lo < a.hi <= task.size
        assert a.hi == (task.size if task.timeout is None else a.lo + 1)  # S29: one at a time
        assert a.hi - a.lo <= task.step
        items = {(task.sink, item) for item in range(a.lo, a.hi)}
        assert not items & self.asked, "S35: it was asked to stop"
        assert a.attempt not in self.tries
        assert all(t.task != a.task for t in self.tries.values()), "one attempt at a time"
        for t in self.tries.values():
            shift = self.tasks[t.task].index - task.index
            apart = a.hi <= t.cur + shift or t.hi + shift <= a.lo
            assert t.group != a.group or apart, "each item is with one attempt at a time"
        assert a.fatal == (view.policy == "now"), "S11"
        self.tries[a.attempt] = Try(a.attempt, a.task, a.group, a.lo, a.lo, a.hi, a.fatal)
        assert len(self.tries) <= self.machine.slots, "I2"

    def _split(self, a: ac.Split, event: ev.Event, following: list[ac.Action]) -> None:
        """The runtime tells the same sink, and takes the same numbers."""
        task, index = self.tasks[a.task], a.lo
        step = task.step
        if type(event) is ev.GivenBack and self.tries[event.attempt].task == a.task:
            assert index == event.index
            step = min(index - self.tries[event.attempt].lo, (task.size - index + 1) // 2)
        elif following and type(following[0]) is ac.Send and following[0].task == a.task:
            assert task.timeout is None and index == task.done + task.step
            step = 2 * task.step
        else:
            assert any(sink == task.sink for sink, _ in self.asked), "nobody wanted a part of it"
        assert a.part < 0 and a.part not in self.tasks, "users number theirs from 1"
        part = TaskView(a.part, task.group, task.index, task.size, task.timeout, task.sink, index)
        part.done = index
        part.step = step
        self.tasks[a.part] = part
        task.size = index

    def _resolved(
        self, a: ac.Resolve, pulled_before: set[int], reporting: Try | None, failing: bool
    ) -> None:
        task = self.tasks[a.task]
        view = self.groups[task.group]
        assert not view.closed and not task.over, "S4, S5"
        assert a.count >= 1 and a.index == task.done, "S4: once each, and in order"
        task.done += a.count
        assert task.done <= task.size, "S4"
        task.over = task.done == task.size
        assert a.over is task.over, "S4"
        if reporting is not None and reporting.task == a.task and reporting.id not in self.tries:
            task.step = min(task.step, (task.size - task.done + 1) // 2)
        for item in range(task.index + a.index, task.index + task.done):
            assert view.items[item] is None, "S4: once each"
            view.items[item] = a.state
        stopping = view.reason is not None
        if a.state is TaskState.SUCCEEDED:
            assert a.started is True and a.stopped_by is StoppedBy.RETURNED
        elif a.state is TaskState.FAILED:
            # S6: whatever stops because of this failure is told before the failure is.
            assert view.pulled or view.policy != "now", "S6"
            assert stopping or view.policy == "all", "S6"
            assert a.count == 1
        else:
            assert a.state is TaskState.CANCELLED
            assert a.cancel_requested, "nothing is cancelled that nobody asked to stop"
            assert stopping or task.owner_asked or (task.sink, a.index) in self.asked
            assert a.count == 1 or a.started is False
            if a.stopped_by is StoppedBy.NEVER_STARTED:
                assert a.started is False, "S13"
        if a.cancel_requested:
            assert stopping or task.owner_asked or (task.sink, a.index) in self.asked, "S3"
        if any((task.sink, item) in self.asked for item in range(a.index, a.index + a.count)):
            return  # the runtime knows of these what was asked
        if reporting is not None and reporting.task == a.task and a.started is not False:
            # S3, S34: `cancel_requested` is what was asked before this report, by whomever.
            if failing:
                asked = reporting.asked_first
            else:
                asked = task.owner_asked or task.group in pulled_before
            assert a.cancel_requested == asked, "S3"

    def _closed(self, a: ac.GroupClosed) -> None:
        view = self.groups[a.group]
        assert not view.closed and view.left
        view.closed = True
        assert all(t.group != a.group for t in self.tries.values()), "S5: the engine has some yet"
        mine = [t for t in self.tasks.values() if t.group == a.group]
        assert all(t.over for t in mine) and None not in view.items, "S4"
        for sink in {t.sink for t in mine}:
            told = sorted((t.first, t.size) for t in mine if t.sink == sink)
            assert told[0][0] == 0, "a sink is told of all its items"
            assert all(a[1] == b[0] for a, b in itertools.pairwise(told)), "S4"
        assert a.reason is view.reason, "S8"
        assert a.verdict is (view.verdict or Verdict.OK), "S5"
        if a.reason is not None and a.reason.kind is ReasonKind.FAILURE:
            source = a.reason.source
            if source is not None:  # a group that failed can show the failure
                assert view.items[source] is TaskState.FAILED, "S33"

    def _check_state(self) -> None:
        machine = self.machine
        machine.check_invariants()
        assert set(machine._attempts) == set(self.tries), "I2"
        for number, view in self.groups.items():
            record = machine.groups.get(number)
            assert (record is None) == view.closed
            if record is None:
                continue
            assert record.reason is view.reason and record.verdict is view.verdict, "S8, S5"
            assert (record.state is GroupState.CANCELLING) == view.pulled, "S6"
            live = [t for t in self.tries.values() if t.group == number]
            if record.state is GroupState.DRAINING:
                assert view.drained or not live, "what has not begun must not start"
            if view.pulled:
                assert all(t.killable for t in live), "S15: the ladder is not run over one of them"
                if live:
                    numbers = (view.grace, view.kill_after)
                    assert numbers == (record.grace, record.kill_after), "S9: told too little"
            assert _RANK[record.state] >= view.rank, "S9"
            view.rank = _RANK[record.state]

    # The end -------------------------------------------------------------------------------------

    def next_to_the_end(self, cruel: bool) -> Choice | None:
        """What comes next where all is brought to its end; None where it is.

        It depends on nothing but what `key` tells. `cruel`: every worker dies, stop or no.
        """
        if self.machine.slots == 0:
            return ("slots", 1)
        for number, view in self.groups.items():
            if not view.left and not view.closed:
                return ("leave", number)
        if not self.tries:
            return None
        t = next(iter(self.tries.values()))
        if t.cur == t.hi:
            return ("end", t.id)
        if t.failing:
            return ("fail", t.id, True)
        if t.cur < t.at:
            return ("succeed", t.id, 1)
        if t.soon:
            return ("give", t.id, t.cur + 1)
        if cruel:
            return ("kill" if t.killable else "die", t.id, t.cur, True)
        if t.told:
            return ("stop", t.id, True) if t.begun else ("end", t.id)
        return ("succeed", t.id, 1)

    def finish(self, *, cruel: bool = False, known: set[Any] | None = None) -> None:
        """Drive everything to its end: nothing hangs.

        `known`: keys of states from which this has been seen already; those met are added.
        """
        steps = 20 + len(self.groups) + 4 * sum(task.size for task in self.tasks.values())
        for _ in range(steps):
            if known is not None:
                key = self.key()
                if key in known:
                    return
                known.add(key)
            choice = self.next_to_the_end(cruel)
            if choice is None:
                break
            self.take(choice)
        machine = self.machine
        assert all(view.closed for view in self.groups.values()), "it hangs"
        assert not machine.groups and not machine._tasks and not machine._attempts
        assert not machine._ready and machine.wake_at() is None
        assert all(task.over for task in self.tasks.values()), "S4"
