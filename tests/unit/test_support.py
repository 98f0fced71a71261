"""The waiting tools of `tests/support.py`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.support import START_METHODS, Stage, alive, cores, eventually, run_python, wait_gone


def announce_and_hold(here: Stage, go: Stage) -> None:
    here.reach(os.getpid())
    go.hold()
    here.reach("done")


@pytest.mark.parametrize("method", ["fork", "spawn"])  # forkserver's server would stay
def test_a_process_announces_itself_and_is_released(
    stage: Callable[..., Stage], method: str
) -> None:
    here, go = stage("here"), stage("go")
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=announce_and_hold, args=(here, go)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(here.wait(2)) == sorted(str(process.pid) for process in processes)
    assert here.reached() == []
    go.release()
    assert here.word() == "done"
    assert here.reached() == []
    go.release()
    assert here.word() == "done"
    for process in processes:
        process.join()
        process.close()


def test_announcements_are_kept_and_given_out_in_order(stage: Callable[..., Stage]) -> None:
    here = pickle.loads(pickle.dumps(made := stage()))
    for word in "abcd":
        here.reach(word)
    assert made.wait(2) == ["a", "b"]
    assert made.reached() == ["c", "d"]


def test_a_missed_stage_says_what_came(stage: Callable[..., Stage]) -> None:
    here = stage("here")
    here.reach("one")
    with pytest.raises(AssertionError, match=r"2 expected, only \['one'\] came in time"):
        here.wait(2, within=0.01)
    with pytest.raises(AssertionError, match="was not released in time"):
        here.hold(within=0.01)


def test_eventually_gives_the_value_or_says_what_was_missed() -> None:
    assert eventually(lambda: 7) == 7
    with pytest.raises(AssertionError, match="the moon"):
        eventually(lambda: 0, within=0.01, what="the moon")


def test_wait_gone_sees_the_end_and_reaps_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        with pytest.raises(AssertionError, match="did not end"):
            wait_gone([process.pid], within=0.01)
        process.kill()
        assert wait_gone([process.pid]) < 20
        assert not alive(process.pid)
        assert process.wait() == -signal.SIGKILL


def test_a_command_that_hangs_is_killed_with_its_children(stage: Callable[..., Stage]) -> None:
    here = stage()
    source = (
        "import os, sys, time\n"
        "os.fork(); os.write(os.open(sys.argv[1], os.O_WRONLY), b'%d\\n' % os.getpid())\n"
        "print('so far', flush=True); time.sleep(60)\n"
    )
    with pytest.raises(AssertionError, match="so far"):
        run_python(["-S", "-c", source, here.path + ".said"], timeout=2)
    wait_gone(int(pid) for pid in here.wait(2))


def test_a_run_gives_status_and_output() -> None:
    done = run_python(["-c", "import sys; print(input()); sys.exit(3)"], stdin="hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello\n", "")


def test_every_start_method_of_this_platform_is_tried() -> None:
    assert set(START_METHODS) == set(multiprocessing.get_all_start_methods())


def test_busy_cores_computes_on_every_core(busy_cores: int) -> None:
    assert busy_cores == cores()
    assert len(psutil.Process().children()) >= busy_cores


def test_the_start_method_fixture_gives_one_of_them(start_method: str) -> None:
    assert start_method in START_METHODS
