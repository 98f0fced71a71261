"""The end of the parent (S20, S38): however it goes, everything that it started goes with it.

Workers are busy in Python, asleep, and in C code that holds the GIL, each with a child process and
one that has left its process group; and work is pending.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support import (
    Stage,
    _environment,
    _kill_session,
    alive,
    allowed,
    eventually,
    run_python,
    wait_gone,
)
from tests.survival import parents

MakeStage = Callable[..., Stage]
WITHIN = 1.0  # seconds, the contract's


@contextmanager
def program(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running program of `parents`, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.survival.parents", name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            _kill_session(process.pid)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def tell(process: subprocess.Popen[str], word: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def announced(running: Stage) -> list[int]:
    """All that the busy tasks have told: workers, children, escaped children."""
    return [int(p) for line in running.wait(len(parents.BUSY)) for p in line.split()]


def of_session(leader: int) -> list[int]:
    """Who else lives in the program's session: templates and idle workers too."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader and pid != leader and alive(pid):
                found.append(pid)
        except ProcessLookupError:
            pass
    return found


ENDINGS: dict[str, int] = {
    "falls_off_its_end": 0,
    "leaves_by_sys_exit": 5,
    "leaves_by_os_exit": 6,
    "fails": 1,
    "fails_in_a_group": 7,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_with_work_pending(start_method: str, stage: MakeStage, ending: str) -> None:
    running = stage("running")
    with program(ending, start_method, running.path) as process:
        pids = announced(running)
        others = of_session(process.pid)
        began = time.monotonic()
        _, err = process.communicate("\n", timeout=20)
        assert time.monotonic() - began < allowed(3.0)
        wait_gone([*pids, *others], within=allowed(WITHIN))
        assert process.returncode == ENDINGS[ending], err
        assert of_session(process.pid) == []
    assert err.count("Traceback") == (ending == "fails"), err
    assert "Exception ignored" not in err
    assert running.reached() == []  # and nothing else has begun


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_it_is_killed(start_method: str, stage: MakeStage, number: int) -> None:
    running = stage("running")
    with program("waits_to_be_killed", start_method, running.path) as process:
        pids = announced(running)
        others = of_session(process.pid)
        process.send_signal(number)
        wait_gone([*pids, *others], within=allowed(WITHIN))
        assert process.wait(5) == -number
        assert of_session(process.pid) == []


def test_it_is_killed_and_a_fork_of_it_is_not(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with program("forks_and_waits_to_be_killed", start_method, running.path) as process:
        pids = announced(running)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        others = [pid for pid in of_session(process.pid) if pid != child]
        process.kill()
        wait_gone([*pids, *others], within=allowed(WITHIN))
        assert alive(child)
        os.kill(child, signal.SIGKILL)
        wait_gone([child])


def test_it_is_killed_while_stopped(start_method: str, stage: MakeStage) -> None:
    """As by a debugger, or Ctrl-Z and then the closing of the terminal."""
    running = stage("running")
    with program("waits_to_be_killed", start_method, running.path) as process:
        pids = announced(running)
        for pid in (*pids, process.pid):
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        wait_gone(pids, within=allowed(WITHIN))


def test_its_template_is_killed(start_method: str, stage: MakeStage) -> None:
    """Nobody is there to reap and to sweep; the workers go all the same, and it goes on."""
    running = stage("running")
    with program("waits_to_be_killed", start_method, running.path) as process:
        pids = announced(running)
        templates = psutil.Process(process.pid).children()
        assert len(templates) == 1
        templates[0].kill()
        process.kill()
        wait_gone([pid for i, pid in enumerate(pids) if i % 3 < 2], within=allowed(WITHIN))
        for pid in pids[
            2::3
        ]:  # who has left the group of a worker that nobody watches: not covered
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_S38_it_drops_its_pool(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with program("drops_its_pool", start_method, running.path) as process:
        pids = announced(running)
        tell(process)
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["ResourceWarning"]
        wait_gone(pids, within=allowed(WITHIN))
        assert process.poll() is None  # it lives
        _, err = process.communicate("\n", timeout=20)
        assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("how", ["open", "shut down", "dropped"])
def test_an_executor_finishes_its_work(start_method: str, stage: MakeStage, how: str) -> None:
    running = stage("running")
    with program("leaves_an_executor", start_method, running.path, how) as process:
        out, err = process.communicate(timeout=20)
        assert out.splitlines() == ["end of main", "ran 0", "ran 1", "ran 2"]
        assert (process.returncode, err) == (0, "")
        wait_gone(of_session(process.pid), within=allowed(WITHIN))


def test_an_executor_that_never_ends(start_method: str, stage: MakeStage) -> None:
    """The program waits for it at its end; Ctrl-C ends that, and its workers with it."""
    running = stage("running")
    with program("leaves_an_executor_that_never_ends", start_method, running.path) as process:
        pids = [int(p) for p in running.wait()[0].split()]
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        wait_gone([*pids, *of_session(process.pid)], within=allowed(WITHIN))
        assert err.count("Traceback") == 1 and "KeyboardInterrupt" in err


@pytest.mark.parametrize("ending", ["os._exit", "sys.exit", "gc", "close", "leave"])
def test_S38_it_forks(start_method: str, stage: MakeStage, ending: str) -> None:
    running, go = stage("running"), stage("go")
    result = run_python(
        ["-m", "tests.survival.parents", "forks", start_method, running.path, go.path, ending]
    )
    lines = result.stdout.splitlines()
    told = [line for line in lines if line.startswith("child:")]
    expected = ["child: own group ok True"]
    if ending == "leave":
        expected.append("child: left the group")
    assert told == expected, result.stdout + result.stderr
    assert [line for line in lines if not line.startswith("child:")] == [
        "status 0",
        "parent: held True",
        "parent: group ok 4",
        "parent: same workers True",
        "parent: done",
    ], result.stdout + result.stderr
    assert result.returncode == 0 and result.stderr == ""


def test_children_of_a_killed_worker_go_too(start_method: str, stage: MakeStage) -> None:
    """Not the parent's end, but a worker's: its tree goes before anybody is told (S20)."""
    import andon

    running = stage("running")
    with andon.ProcessPoolExecutor(1, start_method=start_method) as executor:
        future = executor.submit(parents.busy, "sleep", running)
        worker, *children = (int(p) for p in running.word().split())
        os.kill(worker, signal.SIGKILL)
        assert type(future.exception(20)) is andon.WorkerDiedError
        assert not any(alive(pid) for pid in children)
    eventually(lambda: not Path(f"/proc/{worker}").exists())
