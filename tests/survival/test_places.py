"""Where people open pools: threads, daemonic processes, pools in pools, a server's children (S20,
S37, S38). It works there, and when the place goes, all that it has started goes with it.

Scripts, modules, prompts and notebooks stand in `test_programs`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import (
    Stage,
    _environment,
    _kill_session,
    alive,
    allowed,
    run_python,
    wait_gone,
)
from tests.survival.test_parent import WITHIN, of_session, tell

MakeStage = Callable[..., Stage]
EVERYTHING = "[[10, 11, 12, 13], 9, 16, [0, 1, 4]]"


@contextmanager
def program(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running program of `places`, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.survival.places", name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            _kill_session(process.pid)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


NOWHERE = """
import os, sys, andon
os.rmdir(os.getcwd())
print(andon.map(abs, [-1, 2], workers=2, start_method=sys.argv[1]))
"""


def test_a_directory_that_is_gone(start_method: str, tmp_path: Path) -> None:
    here, script = tmp_path / "here", tmp_path / "script.py"
    here.mkdir()
    script.write_text(NOWHERE)  # `-c` has the directory on its path: 3.13.0 imports nothing then
    done = run_python([script, start_method], cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2]\n", "")


EMBEDDED = """
import sys, andon
del sys.argv
print(andon.map(abs, [-1, 2], workers=2, start_method=sys.stdin.read()))
sys.executable = None
try:
    print(andon.map(abs, [-1, 2], workers=2, start_method="spawn"))
except RuntimeError as error:
    print(error)
"""


def test_an_interpreter_within_another_program(start_method: str) -> None:
    done = run_python(["-c", EMBEDDED], stdin=start_method)
    assert done.returncode == 0, done.stderr
    results, said = done.stdout.splitlines()
    assert results == "[1, 2]" and said.startswith("workers are started by sys.executable, which")
    assert done.stderr == ""


def test_a_daemonic_process(start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    with program("daemonic", start_method, running.path) as process:
        assert running.word() == f"True {EVERYTHING}"
        workers = [int(word) for word in running.wait(2)]
        others = of_session(process.pid)
        tell(process, "end")
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
        wait_gone([*workers, *others], within=allowed(WITHIN))


def test_threads(start_method: str, stage: MakeStage) -> None:
    with program("threads", start_method, stage("unused").path) as process:
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out.splitlines(), err) == (0, [EVERYTHING] * 2, "")


@pytest.mark.parametrize("how", ["cancel", "kill", "a killed worker", "a killed parent"])
def test_three_levels(start_method: str, stage: MakeStage, how: str) -> None:
    """The outer takes the inner along, however it goes (S37)."""
    running = stage("running")
    with program("three_levels", start_method, running.path, how) as process:
        outer, *inner = [int(word) for word in running.wait(3)]
        below = [pid for pid in of_session(process.pid) if pid != outer]
        if how == "a killed worker":
            os.kill(outer, signal.SIGKILL)
        elif how == "a killed parent":
            process.kill()
        else:
            tell(process)
        wait_gone([outer, *inner], within=allowed(WITHIN))
        if how == "a killed parent":
            wait_gone(below, within=allowed(WITHIN))
            return
        out, err = process.communicate("\n", timeout=20)
        state = "failed WorkerDiedError" if "worker" in how else "cancelled TaskCancelledError"
        assert (process.returncode, err) == (0, "")
        assert out.strip() == f"{state} True"
        assert of_session(process.pid) == []


def test_a_server_that_forks_its_children(start_method: str, stage: MakeStage) -> None:
    """Killed, terminated or asked to leave: nothing of theirs stays, and the master goes on."""
    running = stage("running")
    with program("prefork", start_method, running.path) as process:
        children = [int(word) for word in line(process).split()]
        workers = [int(word) for word in running.wait(6)]
        tell(process)
        assert line(process) == f"{-signal.SIGKILL} {-signal.SIGTERM} 7"
        wait_gone(workers, within=allowed(WITHIN))
        assert line(process) == "True 25"
        assert not any(alive(child) for child in children)
        _, err = process.communicate("\n", timeout=20)
        assert (process.returncode, err) == (0, "")
        wait_gone(of_session(process.pid), within=allowed(WITHIN))
