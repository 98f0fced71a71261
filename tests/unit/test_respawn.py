"""How many deaths are too many (S42), pure."""

from __future__ import annotations

from andon._engines.local.respawn import FIRST_WAIT, LONGEST_WAIT, PER_SLOT, WINDOW, Budget


def test_S42_more_than_five_within_a_minute_are_too_many() -> None:
    budget = Budget()
    assert [budget.note(float(i)) for i in range(PER_SLOT + 1)] == [False] * PER_SLOT + [True]
    assert budget.tries == PER_SLOT + 1


def test_S42_old_ones_are_forgotten() -> None:
    budget = Budget()
    for i in range(100):
        assert not budget.note(i * WINDOW / PER_SLOT)


def test_the_wait_doubles_up_to_a_bound_and_starts_again_after_a_success() -> None:
    budget = Budget()
    waits = [budget.wait() for _ in range(10)]
    assert waits[0] == FIRST_WAIT and waits[1] == 2 * FIRST_WAIT and waits[-1] == LONGEST_WAIT
    assert waits == sorted(waits)
    budget.started()
    assert budget.wait() == FIRST_WAIT
