"""The stop ladder, pure (S15, S16, S18, S9)."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from andon._engines.local.ladder import (
    DUMP_LATEST,
    DUMP_LEAD,
    DUMP_REST,
    DUMP_WAIT,
    RESEND,
    Ladder,
    Step,
)


def walk(
    ladder: Ladder, start: float, used: bool = False, shield: float | None = None
) -> list[tuple[float, Step]]:
    """Every step of an unimpeded walk, each at the time that the ladder itself asked for."""
    steps, now = [], start
    for _ in range(10_000):
        while (step := ladder.due(now, used, shield)) is not None:
            steps.append((now, step))
        now = ladder.next_at(used, shield)
        if now == math.inf:
            return steps
    raise AssertionError("it never ends")


def first(steps: list[tuple[float, Step]], step: Step) -> float:
    return next(at for at, each in steps if each is step)


def test_S15_a_task_that_never_looked_is_interrupted_at_once() -> None:
    steps = walk(Ladder(100.0, 5.0, 2.0), 100.0)
    assert steps[0] == (100.0, Step.INTERRUPT)
    assert first(steps, Step.DUMP) == pytest.approx(102.0 - DUMP_LEAD)
    assert first(steps, Step.KILL) == pytest.approx(102.0)
    assert steps[-1][1] is Step.KILL


def test_S15_what_is_short_is_interrupted_a_moment_later() -> None:
    assert first(walk(Ladder(100.0, 5.0, 2.0, 0.25), 100.0), Step.INTERRUPT) == 100.25
    assert first(walk(Ladder(100.0, 5.0, 2.0, 0.25), 100.0, used=True), Step.INTERRUPT) == 105.0
    assert first(walk(Ladder(100.0, 0.0, 0.0, 0.25), 100.0), Step.DUMP) == 100.0


def test_S15_a_task_that_used_its_token_has_its_grace() -> None:
    steps = walk(Ladder(100.0, 5.0, 2.0), 100.0, used=True)
    assert steps[0] == (105.0, Step.INTERRUPT)
    assert first(steps, Step.KILL) == pytest.approx(107.0, abs=0.01)


def test_S16_an_interrupt_is_sent_again_until_the_kill() -> None:
    steps = walk(Ladder(0.0, 0.0, 1.0), 0.0)
    sent = [at for at, step in steps if step is Step.INTERRUPT]
    assert len(sent) == pytest.approx((1.0 - DUMP_LEAD) / RESEND, abs=1)
    assert all(b - a == pytest.approx(RESEND) for a, b in itertools.pairwise(sent))


def test_a_brutal_kill_interrupts_nothing_but_still_asks_for_the_stack() -> None:
    steps = walk(Ladder(7.0, 0.0, 0.0), 7.0)
    assert [step for _, step in steps] == [Step.DUMP, Step.KILL]
    assert steps[0][0] == 7.0 and steps[1][0] == pytest.approx(7.0 + DUMP_WAIT)


def test_a_dump_that_has_come_shortens_the_wait_for_it() -> None:
    ladder = Ladder(0.0, 0.0, 0.0)
    assert ladder.due(0.0, False, None) is Step.DUMP
    ladder.dump_came(0.0005)
    assert ladder.next_at(False, None) == pytest.approx(0.0005 + DUMP_REST)
    ladder.dump_came(10.0)  # never later than it was
    assert ladder.next_at(False, None) == pytest.approx(0.0005 + DUMP_REST)


def test_a_dump_that_came_early_brings_no_kill_forward() -> None:
    ladder = Ladder(0.0, 0.0, 2.0)
    assert ladder.due(2.0 - DUMP_LEAD, False, None) is Step.DUMP
    ladder.dump_came(2.0 - DUMP_LEAD + 0.001)
    assert ladder.next_at(False, None) == pytest.approx(2.0)


def test_a_dump_asked_for_late_holds_the_kill_a_little() -> None:
    ladder = Ladder(0.0, 0.0, 2.0)
    assert ladder.due(2.5, False, None) is Step.DUMP
    assert ladder.next_at(False, None) == pytest.approx(2.5 + DUMP_WAIT)


def test_a_dump_that_waits_for_a_core_holds_the_kill_longer_but_within_bounds() -> None:
    ladder = Ladder(0.0, 0.0, 0.0)
    assert ladder.due(0.0, False, None) is Step.DUMP
    ladder.dump_waits(0.0)
    assert ladder.next_at(False, None) == pytest.approx(DUMP_WAIT)  # as without
    for _ in range(100):
        now = ladder.next_at(False, None)
        ladder.dump_waits(now)
    assert now == pytest.approx(DUMP_LATEST)
    assert ladder.due(now, False, None) is Step.KILL


def test_S18_a_shield_holds_the_interrupt_back_but_not_the_kill() -> None:
    short = walk(Ladder(0.0, 0.0, 2.0), 0.0, used=True, shield=1.0)
    assert short[0] == (1.0, Step.INTERRUPT)
    assert first(short, Step.KILL) == pytest.approx(2.0, abs=0.01)
    long = walk(Ladder(0.0, 0.0, 2.0), 0.0, used=True, shield=100.0)
    assert [step for _, step in long] == [Step.DUMP, Step.KILL]
    assert first(long, Step.KILL) == pytest.approx(2.0, abs=0.01)


def test_S9_a_second_call_with_the_same_numbers_changes_nothing() -> None:
    for used in (False, True):
        once, twice = Ladder(0.0, 5.0, 2.0), Ladder(0.0, 5.0, 2.0)
        once.due(0.0, used, None)
        twice.due(0.0, used, None)
        twice.harden(1.0, 5.0, 2.0)
        assert walk(once, 1.0, used) == walk(twice, 1.0, used)


def test_S9_a_second_call_shortens_the_grace() -> None:
    ladder = Ladder(0.0, 5.0, 2.0)
    assert ladder.due(0.0, True, None) is None
    ladder.harden(1.0, 0.5, 1.0)
    steps = walk(ladder, 1.0, used=True)
    assert steps[0] == (1.5, Step.INTERRUPT)
    assert first(steps, Step.KILL) == pytest.approx(2.5, abs=0.01)


def test_S9_a_second_call_shortens_what_is_left_after_the_interrupt() -> None:
    ladder = Ladder(0.0, 0.0, 10.0)
    assert ladder.due(0.0, False, None) is Step.INTERRUPT
    ladder.harden(1.0, 0.0, 0.0)
    assert ladder.due(1.0, False, None) is Step.DUMP


def test_S9_never_the_reverse() -> None:
    rng = random.Random(4)
    for _ in range(300):
        grace, kill_after = rng.choice([0, 1, 3]), rng.choice([0, 1, 3])
        used = rng.random() < 0.5
        ladder = Ladder(0.0, grace, kill_after)
        ladder.due(0.0, used, None)
        before = ladder.next_at(used, None), ladder.kill_by(used)
        ladder.harden(rng.random() * 2, rng.choice([0, 1, 9]), rng.choice([0, 1, 9]))
        after = ladder.next_at(used, None), ladder.kill_by(used)
        assert after[0] <= before[0] and after[1] <= before[1]


def test_a_step_is_never_due_before_the_time_that_was_named_for_it() -> None:
    rng = random.Random(5)
    for _ in range(300):
        ladder = Ladder(0.0, rng.random() * 3, rng.random() * 3)
        used = rng.random() < 0.5
        shield = rng.random() * 4 if used and rng.random() < 0.5 else None
        now = 0.0
        while ladder.step is not Step.KILL:
            while ladder.due(now, used, shield) is not None:
                pass
            at = ladder.next_at(used, shield)
            if ladder.step is Step.KILL:
                break
            assert at > now
            assert ladder.due((now + at) / 2, used, shield) is None
            now = at
