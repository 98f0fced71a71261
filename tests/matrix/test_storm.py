"""Stops at random moments, over tasks of all kinds, again and again on one pool (S17, S51).

After thousands of them no task has hung, none has got what was another's, each outcome is what
really happened, and every task has exactly one (S3, S4).

About 30 s by default. `ANDON_STORM=50000` asks for so many stops of running tasks in all;
`ANDON_STORM_SEED` repeats the choices of a run that failed (its moments cannot be).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import andon
from andon.outcome import Outcome
from tests.matrix import storm_tasks
from tests.matrix.storm_tasks import HARMLESS, KINDS, bulky, failing, item, nested, task
from tests.matrix.test_stop_matrix import WORKERS, meet_all
from tests.support import START_METHODS, Stage

STOPS = int(os.environ.get("ANDON_STORM", "2000"))
_PER_SECOND = 15  # stops that even a busy machine does
_WAYS = {  # of stopping, and how often
    "group": 30,
    "failure": 30,
    "futures": 10,
    "body": 5,
    "map": 8,
    "deadline": 5,
    "timeout": 5,
    "event": 5,
    "none": 2,
}
_TIME = 120 + STOPS / _PER_SECOND

pytestmark = [pytest.mark.stress, pytest.mark.timeout(_TIME)]


class Diary:
    """What the tasks have written, and what they should have."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = str(path)
        self._at = 0

    def news(self) -> Counter[str]:
        """The lines since the last call."""
        with open(self.path) as file:
            file.seek(self._at)
            text = file.read()
            self._at = file.tell()
        return Counter(map(str.rstrip, text.splitlines()))


class Storm:
    """Rounds on one pool, each a group that is stopped at a random moment in a random way."""

    def __init__(
        self, pool: andon.Pool, diary: Diary, rng: random.Random, kinds: list[str]
    ) -> None:
        self.pool = pool
        self.diary = diary
        self.rng = rng
        self.kinds = kinds
        self.numbers = 0
        self.rungs: Counter[str] = Counter()
        self.stops = 0
        self.pids: set[int] = set()

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def round(self) -> None:
        rng = self.rng
        way = rng.choices(list(_WAYS), list(_WAYS.values()))[0]
        # A kill at once now and then; else never, however busy the machine.
        brutal = rng.random() < 0.05
        grace = 0.0 if brutal else rng.choice((0.0, 0.002, 0.01, 20.0))
        kill_after = 0.0 if brutal else 20.0
        moment = 0.03 * rng.random() ** 2
        numbers: list[int] = []
        bad: set[int] = set()
        raised: BaseException | None = None
        event = andon.Event()
        tg = andon.TaskGroup(
            pool=self.pool,
            grace=grace,
            kill_after=kill_after,
            token=event if way == "event" else None,
            deadline=moment if way == "deadline" else None,
            timeout=max(moment, 0.001) if way == "timeout" else None,
        )
        try:
            with tg:
                if way == "map":
                    self._map(tg, numbers, moment)
                else:
                    self._tasks(tg, way, numbers, bad, moment, event)
        except ExceptionGroup as group:
            raised = group
        self._check(tg, way, numbers, bad, raised, brutal)

    def _tasks(
        self,
        tg: andon.TaskGroup,
        way: str,
        numbers: list[int],
        bad: set[int],
        moment: float,
        event: andon.Token,
    ) -> None:
        rng, diary = self.rng, self.diary.path
        futures: list[andon.Future[Any]] = []
        for _ in range(rng.randint(2, WORKERS + 2)):
            number = self.number()
            numbers.append(number)
            seconds = 0.02 if way == "none" else 0.05
            kind = rng.choice(self.kinds)
            if way == "failure" and (not bad or rng.random() < 0.1):
                bad.add(number)
                futures.append(tg.submit(failing, number, diary, moment))
            elif rng.random() < 0.1:
                load = number.to_bytes(4, "little") * rng.choice((1000, 50_000))
                futures.append(tg.submit(bulky, kind, number, diary, seconds, load))
            else:
                futures.append(tg.submit(task, kind, number, diary, seconds))
        if way in ("group", "body", "futures", "event"):
            time.sleep(moment)
        if way == "group":
            tg.cancel("enough")
        elif way == "event":
            event.set()
        elif way == "body":
            raise KeyError("body")
        elif way == "futures":
            for future in rng.sample(futures, rng.randint(1, len(futures))):
                future.cancel()
                if rng.random() < 0.3:
                    time.sleep(moment / 4)

    def _map(self, tg: andon.TaskGroup, numbers: list[int], moment: float) -> None:
        rng = self.rng
        kinds = [k for k in self.kinds if k != "long sleep"]

        def items() -> Iterator[tuple[str, int, str, float]]:
            for _ in range(40):
                numbers.append(self.number())
                yield rng.choice(kinds), numbers[-1], self.diary.path, rng.choice((0, 0.001, 0.01))

        end = time.monotonic() + moment
        got = []
        for number, _ in tg.map(item, items(), chunksize=rng.choice((None, 1, 5))):
            got.append(number)
            if time.monotonic() > end:
                assert got == numbers[: len(got)], "in order"
                tg.cancel("enough")
                return
        assert got == numbers

    def _check(
        self,
        tg: andon.TaskGroup,
        way: str,
        numbers: list[int],
        bad: set[int],
        raised: BaseException | None,
        brutal: bool,
    ) -> None:
        lines = self.diary.news()
        # Whatever wrote is of this group: the others' tasks were over when their groups were.
        assert {int(line.split()[1]) for line in lines} <= set(numbers)
        assert set(lines.values()) <= {1}, "a task ran twice"
        outcomes = tg.outcomes
        stats = tg.stats
        if tg.reason is not None:  # the stop came before these were submitted (S14)
            assert not any(lines[f"begins {number}"] for number in numbers[len(outcomes) :])
            del numbers[len(outcomes) :]
        assert [o.index for o in outcomes] == list(range(len(numbers)))
        assert stats.submitted == len(numbers) == stats.succeeded + stats.failed + stats.cancelled
        for outcome, number in zip(outcomes, numbers, strict=True):
            try:
                self._check_one(outcome, number, number in bad, lines, brutal, way)
            except AssertionError as error:
                error.add_note(f"way {way!r}, reason {tg.reason}, of {number}: {outcome!r}")
                raise
        failures = [o.error for o in outcomes if o.state == "failed"]
        if way == "body":
            assert isinstance(raised, ExceptionGroup)
            assert [type(e) for e in raised.exceptions] == [KeyError]
        elif way == "deadline" and tg.reason is not None:
            assert isinstance(raised, ExceptionGroup)
            assert [type(e) for e in raised.exceptions] == [andon.GroupTimeoutError]
        elif failures:
            assert isinstance(raised, ExceptionGroup)
            assert set(map(id, raised.exceptions)) == set(map(id, failures))
        else:
            assert raised is None

    def _check_one(
        self,
        outcome: Outcome,
        number: int,
        bad: bool,
        lines: Counter[str],
        brutal: bool,
        way: str,
    ) -> None:
        state, by = outcome.state, outcome.stopped_by
        began, ended = lines[f"begins {number}"], lines[f"ends {number}"]
        if outcome.started is None:
            # Killed between the words of its row that say which item is next, and that it is.
            assert (brutal, state, by) == (True, "cancelled", "kill")
            assert not (began or ended)
            return
        if state == "succeeded":
            assert (by, outcome.started, began, ended) == ("returned", True, 1, 1)
            value = outcome.value
            assert value[0] == number, "another's result"
            if isinstance(value[1], bytes):
                load = number.to_bytes(4, "little")
                assert value[1] == load * (len(value[1]) // 4), "another's result"
            else:
                self.pids.add(value[1])
        elif state == "failed" and way == "timeout":
            assert isinstance(outcome.error, andon.TaskTimeoutError), repr(outcome.error)
            assert by in ("token", "interrupt", "kill")
            assert brutal or by != "kill"
            self.stops += 1
            self.rungs[str(by)] += 1
        elif state == "failed":
            assert bad and isinstance(outcome.error, ValueError)
            assert str(outcome.error) == f"failed {number}", "another's error"
            assert (began, ended) == (1, 1)
        else:
            assert state == "cancelled" and outcome.cancel_requested
            assert brutal or by != "kill"
            if outcome.started:
                assert by in ("token", "interrupt", "kill")
                self.stops += 1
            else:
                assert by in ("never-started", "kill")  # a kill: while it was unpickled
                assert (began, ended) == (0, 0)
            self.rungs[str(by)] += 1


@pytest.fixture
def rng(capsys: pytest.CaptureFixture[str]) -> random.Random:
    seed = os.environ.get("ANDON_STORM_SEED") or str(random.randrange(10**9))
    print(f"ANDON_STORM_SEED={seed}")  # shown where the test fails
    return random.Random(seed)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_S17_S51_interrupts_at_random_moments(
    start_method: str, tmp_path: Path, rng: random.Random, stage: Callable[..., Stage]
) -> None:
    # Of all stops: a successor has to import what these tasks use, or to start an interpreter even.
    share = {"fork": 0.5, "forkserver": 0.12, "spawn": 0.04}[start_method]
    with andon.Pool(WORKERS, start_method=start_method) as pool:
        storm = Storm(pool, Diary(tmp_path / "diary"), rng, list(KINDS))
        while storm.stops < STOPS * share:
            storm.round()
        assert pool.map(storm_tasks.compute, range(8)) == [storm_tasks.compute(i) for i in range(8)]
        meet_all(pool, stage)
    assert storm.rungs["interrupt"] > storm.stops / 3
    assert storm.rungs["token"] > 0 or storm.stops < 200


def test_S51_reuse_interrupted_where_nothing_can_be_harmed(
    tmp_path: Path, rng: random.Random, stage: Callable[..., Stage]
) -> None:
    with andon.Pool(WORKERS, start_method="forkserver", reuse_interrupted=True) as pool:
        first = meet_all(pool, stage)
        storm = Storm(pool, Diary(tmp_path / "diary"), rng, list(HARMLESS))
        storm.rng = _NeverBrutal(rng.random())
        while storm.stops < STOPS * 0.2:
            storm.round()
        assert meet_all(pool, stage) == first, "every worker has survived every interrupt"
    assert storm.pids <= first
    assert storm.rungs["interrupt"] > storm.stops / 3


def test_groups_of_several_threads_side_by_side(tmp_path: Path, rng: random.Random) -> None:
    """On workers that come and go, each of which is initialised: none of them disturbs another."""
    threads, errors, storms = 3, list[BaseException](), list[Storm]()

    def run(storm: Storm, rounds: int) -> None:
        try:
            while storm.stops < rounds and not errors:
                storm.round()
        except BaseException as error:
            errors.append(error)

    with andon.Pool(
        WORKERS,
        start_method="forkserver",
        initializer=storm_tasks.initialise,
        initargs=(17,),
        max_tasks_per_worker=5,
    ) as pool:
        for i in range(threads):
            kinds = [*KINDS, "initialised", "initialised"]
            storm = Storm(pool, Diary(tmp_path / f"diary{i}"), random.Random(rng.random()), kinds)
            storms.append(storm)
        running = [
            threading.Thread(target=run, args=(storm, STOPS * 0.15 / threads)) for storm in storms
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        if errors:
            raise errors[0]


class _NeverBrutal(random.Random):
    def random(self) -> float:
        return max(0.06, super().random())


@pytest.mark.parametrize("start_method", START_METHODS)
def test_S37_groups_in_tasks_at_random_moments(
    start_method: str, tmp_path: Path, rng: random.Random
) -> None:
    diary = Diary(tmp_path / "diary")
    stops = 0
    with andon.Pool(2, start_method=start_method) as pool:
        while stops < STOPS * 0.01:
            number = 2 * stops
            pair = (number, number + 1)
            moment = rng.random() * (0.4 if start_method == "spawn" else 0.15)
            with andon.TaskGroup(pool=pool, grace=20, kill_after=20) as tg:
                for n in pair:
                    tg.submit(nested, n, diary.path, 0.05, start_method)
                time.sleep(moment)
                tg.cancel()
            lines = diary.news()
            for n, outcome in zip(pair, tg.outcomes, strict=True):
                if outcome.ok:
                    assert outcome.value == n and lines[f"ends {n}"] == 1
                else:
                    assert outcome.state == "cancelled", repr(outcome)
                    assert outcome.stopped_by in ("never-started", "interrupt", "token")
            stops += 1
