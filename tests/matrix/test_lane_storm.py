"""Workers that die at random moments in runs of short items: within an item, between two of them,
while their values are sent (S4, S25, S45).

A few seconds by default. `ANDON_LANE_STORM=200` asks for so many maps of each start method;
`scripts/hunt` draws other moments in each round.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import andon
from tests.matrix.lane_tasks import any_item, any_value_of, item, unpickled_item, value_of
from tests.support import dice

MAPS = int(os.environ.get("ANDON_LANE_STORM", "2"))
ITEMS = 1200
BOMBS = 10  # a map

pytestmark = [pytest.mark.stress, pytest.mark.linux, pytest.mark.timeout(60 + 10 * MAPS)]


@pytest.mark.parametrize(
    ("fn", "value_of", "arguments"),
    [
        pytest.param(item, value_of, list(range(ITEMS)), id="plain"),
        pytest.param(any_item, any_value_of, list(range(ITEMS)), id="any"),
        pytest.param(unpickled_item, any_value_of, [[i] for i in range(ITEMS)], id="unpickled"),
    ],
)
def test_S45_deaths_at_random_moments_of_runs(
    start_method: str,
    fn: Callable[..., Any],
    value_of: Callable[[int], Any],
    arguments: list[Any],
    tmp_path: Path,
) -> None:
    rng = dice("lane storm", start_method, fn.__name__)
    deaths = 0
    for number in range(MAPS):
        # A new pool for each: workers that die while idle are counted, and may be too many (S42).
        with andon.Pool(2, start_method=start_method) as pool:
            fuses, seconds = [0.0] * ITEMS, [0.0] * ITEMS
            for at in rng.sample(range(ITEMS - 200), BOMBS):
                fuses[at] = rng.choice((1e-6, 3e-5, 2e-4, 1e-3, 5e-3)) * (0.5 + rng.random())
            for at in rng.sample(range(ITEMS), ITEMS // 50):
                seconds[at] = rng.choice((1e-4, 1e-3, 4e-3))
            seconds[rng.randrange(ITEMS)] = 0.06  # what stands behind it is given back
            marks = tmp_path / f"marks{number}"
            with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
                got = list(tg.map(partial(fn, str(marks)), arguments, fuses, seconds))
            begun = Counter(map(int, marks.read_text().split()))
        assert set(begun.values()) == {1}, "an item ran twice"
        assert [o.index for o in tg.outcomes] == list(range(ITEMS)), "S4"
        assert len(got) == ITEMS
        for outcome, result in zip(tg.outcomes, got, strict=True):
            at = outcome.index
            if outcome.state == "succeeded":
                assert begun[at] == 1 and outcome.started is True
                assert repr(outcome.value) == repr(result) == repr(value_of(at))
            else:
                assert isinstance(outcome.error, andon.WorkerDiedError), outcome
                assert result is outcome.error
                assert outcome.started is not False or not begun[at], "S13"
                deaths += 1
        assert tg.stats.succeeded + tg.stats.failed == tg.stats.submitted == ITEMS
    assert 0 < deaths <= BOMBS * MAPS
