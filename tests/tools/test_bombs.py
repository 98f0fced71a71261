"""The public bombs (`andon.testing.bombs`): each goes off where it says, and nowhere else."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from typing import Any

import pytest

import andon
from andon.testing import bombs
from andon.testing.bombs import BombError, OnCalling, OnDel, OnPickling, OnUnpickling

STATUS = {
    "exit": 3,
    "sys-exit": 3,
    "raise": 1,
    "abort": -signal.SIGABRT,
    "segfault": -signal.SIGSEGV,
    "kill": -signal.SIGKILL,
}
KINDS = [OnUnpickling, OnPickling, OnCalling, OnDel]


@pytest.mark.parametrize("how", STATUS)
def test_each_goes_off_as_it_says(how: str) -> None:
    source = f"from andon.testing import bombs; bombs.go_off({how!r})"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=60)
    assert done.returncode == STATUS[how]


def test_a_hanging_bomb_can_be_interrupted() -> None:
    def stop(signum: int, frame: Any) -> None:
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(TimeoutError):
            bombs.go_off("hang")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_spares_the_process_that_made_it(kind: Any) -> None:
    bomb = kind("exit")
    copy = pickle.loads(pickle.dumps(bomb))
    assert (type(copy), copy.how, copy.spare) == (kind, "exit", os.getpid())
    if kind is OnCalling:
        assert bomb(1, x=2) is None
    assert repr(bomb) == f"{kind.__name__}('exit')"


def test_without_anyone_to_spare_it_goes_off_here_too() -> None:
    with pytest.raises(BombError):
        pickle.dumps(OnPickling("raise", spare=None))
    with pytest.raises(BombError):
        OnCalling("raise", spare=None)()
    armed = pickle.dumps(OnUnpickling("raise", spare=None))
    with pytest.raises(BombError):
        pickle.loads(armed)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_way_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ValueError, match="exit, abort"):
        kind("fizzle")


def take(_: Any) -> str:
    return "taken"


@pytest.mark.parametrize(
    ("fn", "args", "error"),
    [
        (take, (OnUnpickling("kill"),), andon.WorkerDiedError),
        (take, (OnUnpickling("raise"),), andon.SerializationError),
        (OnCalling("exit"), (), andon.WorkerDiedError),
        (OnCalling("raise"), (), BombError),
        (bombs.make, (OnPickling, "kill"), andon.WorkerDiedError),
        (bombs.make, (OnPickling, "raise"), andon.SerializationError),
        (bombs.make, (OnUnpickling, "raise"), andon.SerializationError),  # in the parent
        (bombs.throw, (OnPickling, "raise"), None),
    ],
)
def test_in_a_pool_each_costs_its_own_task_alone(fn: Any, args: Any, error: Any) -> None:
    with andon.Pool(1) as pool:
        with pytest.raises(error or andon.AndonError):
            pool.apply(fn, args)
        assert pool.apply(take, (1,)) == "taken"


def test_a_bomb_that_goes_off_when_collected() -> None:
    with andon.Pool(1) as pool:
        pool.apply_async(take, (OnDel("exit"),)).wait(20.0)
        assert pool.apply(take, (1,)) == "taken"
