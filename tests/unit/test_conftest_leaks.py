"""Each check of `nothing_left_behind` can fail: here is one leak of every kind."""

from __future__ import annotations

import _thread
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import leaks
from tests.processes import LINUX, carries_mark
from tests.support import Stage, alive, run_python

linux = pytest.mark.skipif(not LINUX, reason="the check reads /proc")

SLEEPER = "import time; print(flush=True); time.sleep(60)"


@contextmanager
def child(*arguments: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that has said a first line and then sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-S", *arguments],
        stdout=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )
    with process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def kill_and_wait_gone(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([fd], [], [], 10)
    finally:
        os.close(fd)


# Processes --------------------------------------------------------------------------------------


def test_a_child_is_seen_and_described() -> None:
    before = leaks.Snapshot.take()
    with child("-c", SLEEPER) as process:
        left = leaks.wait_for_leftovers(before, within=0)
        assert [each.pid for each in left.processes] == [process.pid]
        assert f"process {process.pid} (" in left.lines()[0]
        assert "time.sleep(60)" in left.lines()[0]
    assert not leaks.left_processes(before)


def test_a_grandchild_is_seen() -> None:
    source = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {SLEEPER!r}])"
    before = leaks.Snapshot.take()
    with child("-c", source) as process:
        left = {each.pid for each in leaks.left_processes(before)}
        assert process.pid in left
        assert len(left) == 2
        for each in left - {process.pid}:
            kill_and_wait_gone(each)


def test_a_child_that_was_not_waited_for_is_seen() -> None:
    before = leaks.Snapshot.take()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        left = leaks.wait_for_leftovers(before, within=0.05)
        assert [each.pid for each in left.processes] == [pid]
        assert "zombie" in left.lines()[0]
    finally:
        os.waitpid(pid, 0)


def escape(stage: Stage, environ: dict[str, str] | None) -> int:
    """Fork twice with a session between: the grandchild, whose pid is returned, is init's child.

    With `environ` it executes another program; without, it stays a copy of this process.
    """
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            if environ is None:
                stage.reach(os.getpid())
                time.sleep(60)
            else:
                tell = f"import os; os.write(1, b'%d\\n' % os.getpid()); {SLEEPER}"
                os.dup2(os.open(stage.path + ".said", os.O_WRONLY), 1)
                os.execve(sys.executable, [sys.executable, "-S", "-c", tell], environ)
        os._exit(0)
    os.waitpid(pid, 0)
    return int(stage.word())


@linux
@pytest.mark.parametrize("executed", [False, True], ids=["forked", "executed"])
def test_a_descendant_that_escaped_is_found_by_its_mark(
    stage: Callable[..., Stage], executed: bool
) -> None:
    before = leaks.Snapshot.take()
    pid = escape(stage(), dict(os.environ) if executed else None)
    try:
        assert pid not in {each.pid for each in psutil.Process().children(recursive=True)}
        assert carries_mark(pid)
        assert [each.pid for each in leaks.left_processes(before)] == [pid]
    finally:
        kill_and_wait_gone(pid)


@linux
def test_a_stranger_carries_no_mark() -> None:
    assert not carries_mark(1)
    with child("-c", SLEEPER, env={}) as process:
        assert not carries_mark(process.pid)


def test_a_process_group_is_named_with_its_members() -> None:
    before = leaks.Snapshot.take()
    with child("-c", SLEEPER, process_group=0) as process:
        left = leaks.wait_for_leftovers(before, within=0)
        assert leaks.left_groups(left.processes) == {process.pid: [process.pid]}
        assert f"process group {process.pid}, kept alive by [{process.pid}]" in left.lines()


@linux
def test_a_member_of_a_left_group_is_found_without_a_mark(stage: Callable[..., Stage]) -> None:
    # The leader is marked; the member below has shed its environment and its parent.
    source = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        f"        os.execve(sys.executable, [sys.executable, '-S', '-c', {SLEEPER!r}], {{}})\n"
        "    os._exit(0)\n"
        "os.wait(); time.sleep(60)\n"
    )
    before = leaks.Snapshot.take()
    with child("-c", source, process_group=0) as process:
        left = {each.pid for each in leaks.left_processes(before)}
        assert process.pid in left
        assert len(left) == 2
        for each in left - {process.pid}:
            assert not carries_mark(each)
            kill_and_wait_gone(each)


def test_what_was_there_before_is_accounted_for() -> None:
    with child("-c", SLEEPER):
        assert not leaks.wait_for_leftovers(leaks.Snapshot.take(), within=0)


def test_what_is_about_to_end_is_waited_for() -> None:
    before = leaks.Snapshot.take()
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    with child("-c", "import sys; print(flush=True); sys.stdin.read()", stdin=subprocess.PIPE) as p:
        assert len(leaks.left_threads(before)) == 1
        reaper = threading.Thread(target=p.wait)
        reaper.start()
        assert p.stdin is not None
        assert p.stdout is not None
        p.stdin.close()
        p.stdout.close()
        release.set()
        assert leaks.wait_for_leftovers(before, within=10).lines() == []
        reaper.join()
        thread.join()


def test_leftovers_are_killed_and_reaped() -> None:
    before = leaks.Snapshot.take()
    with child("-c", SLEEPER) as process:
        leaks.wait_for_leftovers(before, within=0).destroy()
        assert not alive(process.pid)
        assert not leaks.left_processes(before)


# Threads, descriptors, memory, files ------------------------------------------------------------


def test_a_thread_is_seen_with_the_place_where_it_is() -> None:
    before = leaks.Snapshot.take()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="left", daemon=True)
    thread.start()
    try:
        left = leaks.wait_for_leftovers(before, within=0)
        assert left.threads == [thread]
        assert left.lines()[0].startswith("thread 'left' (daemon) in ")
    finally:
        release.set()
        thread.join()
    assert not leaks.wait_for_leftovers(before)


@linux
def test_a_thread_that_python_does_not_know_is_seen() -> None:
    before = leaks.Snapshot.take()
    lock, ended = _thread.allocate_lock(), _thread.allocate_lock()
    lock.acquire()
    ended.acquire()

    def body() -> None:
        with lock:
            ended.release()

    _thread.start_new_thread(body, ())
    try:
        assert len(leaks.left_native_threads(before)) == 1
        assert leaks.wait_for_leftovers(before, within=0).lines()[0].startswith("native thread ")
    finally:
        lock.release()
        ended.acquire()
    assert not leaks.wait_for_leftovers(before)


@linux
def test_a_descriptor_is_seen_with_its_target() -> None:
    before = leaks.Snapshot.take()
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert leaks.left_descriptors(before) == [(fd, "/dev/null")]
        assert f"descriptor {fd} -> /dev/null" in leaks.wait_for_leftovers(before, 0).lines()
    finally:
        os.close(fd)
    assert not leaks.left_descriptors(before)


@linux
def test_a_descriptor_that_now_stands_for_something_else_is_seen(tmp_path: Path) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    before = leaks.Snapshot.take()
    other = os.open(tmp_path, os.O_RDONLY)
    os.dup2(other, fd)
    os.close(other)
    try:
        assert leaks.left_descriptors(before) == [(fd, str(tmp_path))]
    finally:
        os.close(fd)


@pytest.mark.skipif(not leaks.SHM.is_dir(), reason="no /dev/shm here")
def test_shared_memory_is_seen() -> None:
    before = leaks.Snapshot.take()
    name = f"andon-test-{os.getpid()}"
    (leaks.SHM / name).touch()
    try:
        assert name in leaks.left_shared_memory(before)
        assert f"shared memory /dev/shm/{name}" in leaks.wait_for_leftovers(before, 0).lines()
    finally:
        (leaks.SHM / name).unlink()
    assert name not in leaks.left_shared_memory(before)


@pytest.mark.skipif(not leaks.SHM.is_dir(), reason="no /dev/shm here")
def test_what_a_neighbour_holds_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run's semaphores, which are mapped under a name that they have no more."""
    source = (
        "import multiprocessing, sys\n"
        "lock = multiprocessing.get_context('spawn').Lock()\n"
        "print(lock._semlock.name, flush=True)\n"
        "sys.stdin.read()\n"
    )
    before = leaks.Snapshot.take()
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = "sem." + process.stdout.readline().strip().removeprefix("/")
        assert name in leaks.left_shared_memory(before)
        with monkeypatch.context() as patch:
            patch.setattr(leaks, "below", lambda top, table: set())
            patch.setattr(leaks, "carries_mark", lambda pid: False)
            assert name not in leaks.left_shared_memory(before)
        process.communicate("")
    assert name not in leaks.left_shared_memory(before)


def test_temporary_files_are_seen_in_this_process_and_below() -> None:
    before = leaks.Snapshot.take()
    source = "import tempfile; print(tempfile.mkstemp()[1])"
    below = run_python(["-c", source]).stdout.strip()
    with tempfile.TemporaryDirectory() as directory:
        inside = Path(directory, "inside")
        inside.touch()
        left = leaks.left_temporary_files(before)
        assert set(left) == {below, directory, str(inside)}
        assert f"temporary file {below}" in leaks.wait_for_leftovers(before, within=0).lines()
    os.unlink(below)
    assert not leaks.left_temporary_files(before)


# Errors that nobody sees ------------------------------------------------------------------------


def test_an_error_in_a_thread_is_heard() -> None:
    with leaks.heard_errors() as heard:
        thread = threading.Thread(target=lambda: 1 // 0, name="broken")
        thread.start()
        thread.join()
    assert len(heard) == 1
    assert heard[0].startswith("error in thread 'broken'")
    assert "ZeroDivisionError" in heard[0]


def test_an_unraisable_error_is_heard() -> None:
    class Bad:
        def __del__(self) -> None:
            raise ValueError("in __del__")

    with leaks.heard_errors() as heard:
        Bad()
    assert len(heard) == 1
    assert heard[0].startswith("unraisable: ")
    assert "ValueError: in __del__" in heard[0]


def test_a_resource_warning_out_of_a_cycle_is_heard() -> None:
    before = leaks.Snapshot.take()
    with leaks.heard_errors() as heard:
        file = open("/dev/null")  # noqa: SIM115
        cycle: list[object] = [file]
        cycle.append(cycle)
        del file, cycle
        assert not leaks.wait_for_leftovers(before)
    assert any("ResourceWarning" in story for story in heard)


def test_a_forked_child_prints_its_errors(capfd: pytest.CaptureFixture[str]) -> None:
    with leaks.heard_errors() as heard:
        pid = os.fork()
        if pid == 0:
            thread = threading.Thread(target=lambda: 1 // 0)
            thread.start()
            thread.join()
            os._exit(0)
        os.waitpid(pid, 0)
    assert heard == []
    assert "ZeroDivisionError" in capfd.readouterr().err


# The fixture itself -----------------------------------------------------------------------------

LEAKY = """
import os, threading, subprocess, sys, tempfile

from tests.conftest import *

def test_leaks():
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]).returncode = 0
    threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
    os.open("/dev/null", os.O_RDONLY)
    tempfile.mkstemp()

def test_is_not_blamed_for_the_one_before():
    pass
"""


@linux
@pytest.mark.slow
def test_the_fixture_fails_a_leaking_test_and_that_one_alone(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    done = run_python(
        ["-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "base"), "-q"],
        cwd=tmp_path,
        env={"PYTHONPATH": path},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 passed, 1 error" in done.stdout
    said = done.stdout
    assert "left behind by test_leaky.py::test_leaks:" in said
    for trace in ("  process ", "  thread 'left' (daemon)", "-> /dev/null", "  temporary file "):
        assert trace in said, trace


def test_what_every_process_may_do_is_no_leak() -> None:
    """A check that cried wolf would be switched off."""
    ctypes.CDLL(None).getpid()
