"""Whom the idle workers' hunger asks, and whom it forgets. (What comes of it: tests/engine.)"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from andon._engines.local.hunger import Hunger
from andon._engines.local.timers import Timers


class Worker:
    """As far as hunger looks at one."""

    begun = False
    ladder: Any = None
    dead_at: float | None = None

    def __init__(self, items: int) -> None:
        self.attempt = SimpleNamespace(lo=0, hi=items, packed=SimpleNamespace(seconds=1.0))


def hungry(*workers: Worker) -> tuple[Hunger, Timers, list[Any]]:
    timers, asked = Timers(), list[Any]()
    hunger = Hunger(timers, lambda worker, attempt: asked.append(worker))
    for worker in workers:
        hunger.given(worker, worker.attempt)  # type: ignore[arg-type]
    return hunger, timers, asked


def test_as_many_are_asked_as_idle_and_the_fullest_of_them() -> None:
    workers = [Worker(items) for items in (5, 9, 7)]
    hunger, timers, asked = hungry(*workers)
    hunger.felt([Worker(0), Worker(0)])  # type: ignore[list-item]
    timers.run(timers.next_at())
    assert asked == [workers[1], workers[2]]


def test_nobody_is_asked_for_who_has_died_meanwhile() -> None:
    hunger, timers, asked = hungry(Worker(5), Worker(9))
    idle: list[Any] = [Worker(0)]
    hunger.felt(idle)
    idle.clear()
    timers.run(timers.next_at())
    assert asked == []


def test_who_has_died_of_a_span_is_forgotten() -> None:
    dead = Worker(5)
    hunger, timers, _ = hungry(dead)
    dead.dead_at = 1.0
    hunger.felt([Worker(0)])  # type: ignore[list-item]
    assert timers.next_at() == float("inf")
    assert not hunger._spans


def test_who_was_given_something_meanwhile_is_not_hungry() -> None:
    full, fed = Worker(9), Worker(1)
    hunger, timers, asked = hungry(full)
    hunger.felt([fed])  # type: ignore[list-item]
    hunger.given(fed, fed.attempt)  # type: ignore[arg-type]
    assert timers.next_at() == float("inf") and asked == []


def test_who_is_fed_again_and_again_does_not_hold_up_another() -> None:
    full, fed, starving = Worker(9), Worker(1), Worker(1)
    hunger, timers, asked = hungry(full)
    idle: list[Any] = [starving, fed]
    hunger.felt(idle)
    hunger.given(idle.pop(), fed.attempt)  # type: ignore[arg-type]
    timers.run(timers.next_at())
    assert asked == [full]
