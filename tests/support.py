"""Waiting for things that happen elsewhere, without sleeping to win a race.

A test blocks until a task in a worker has reached a named stage, and a task blocks there until the
test lets it go:

    def work(running, go):
        running.reach()         # in the worker: "I am here"
        go.hold()               # ... and stay until released

    def test_it(stage):
        running, go = stage("running"), stage("go")
        ... submit(work, running, go) ...
        running.wait()          # in the test: until it is there
        go.release()

Every wait has a bound; one that is missed says what did and what did not happen.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

# From the safest to the strangest; what a platform does not have is left out.
START_METHODS = [
    method
    for method in ("forkserver", "spawn", "fork")
    if method in multiprocessing.get_all_start_methods()
]

SEED = "ANDON_TEST_SEED"
PATIENCE = 20.0  # seconds; a bound against hanging, never a wait that a test counts on


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def dice(*names: object) -> random.Random:
    """A source of chance for the test of these names: the same in every run, unless the variable
    `ANDON_TEST_SEED` says otherwise (`scripts/hunt` does, in each round)."""
    return random.Random(" ".join(map(str, (*names, os.environ.get(SEED, "")))))


class Stage:
    """A named place. It travels to any process as a path; made by the fixture `stage`.

    The test keeps both FIFOs open, so neither side ever blocks on opening one, and nothing that
    was written before the other side looked is lost.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._said = -1
        self._go = -1
        self._rest = b""

    @classmethod
    def create(cls, path: Path) -> Stage:
        stage = cls(str(path))
        for end in (".said", ".go"):
            os.mkfifo(stage.path + end)
        stage._said = os.open(stage.path + ".said", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        stage._go = os.open(stage.path + ".go", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return stage

    def __reduce__(self) -> tuple[type[Stage], tuple[str]]:
        return Stage, (self.path,)

    def __repr__(self) -> str:
        return f"Stage({os.path.basename(self.path)!r})"

    # In the task ---------------------------------------------------------------------------------

    def reach(self, word: object = "") -> None:
        """Announce that we are here; `word` (one line) is what `wait` gives back."""
        line = f"{word}\n".encode()
        assert line.count(b"\n") == 1 and len(line) <= select.PIPE_BUF, "one short line"
        fd = os.open(self.path + ".said", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, line)  # whole: it is shorter than PIPE_BUF
        finally:
            os.close(fd)

    def hold(self, within: float = PATIENCE) -> None:
        """Stay until the test releases; each release lets one holder go."""
        fd = os.open(self.path + ".go", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + within
            while True:
                _readable(fd, deadline, f"{self!r} was not released")
                try:
                    if os.read(fd, 1):
                        return
                except BlockingIOError:
                    pass  # another holder was quicker
        finally:
            os.close(fd)

    # In the test ---------------------------------------------------------------------------------

    def wait(self, count: int = 1, within: float = PATIENCE) -> list[str]:
        """Block until `count` announcements have come; their words, in order of arrival."""
        deadline = time.monotonic() + within
        while self._rest.count(b"\n") < count:
            got = self._rest.decode().split("\n")[:-1]
            _readable(self._said, deadline, f"{self!r}: {count} expected, only {got} came")
            self._rest += os.read(self._said, 65536)
        *lines, rest = self._rest.split(b"\n", count)
        self._rest = rest
        return [line.decode() for line in lines]

    def word(self, within: float = PATIENCE) -> str:
        """Block until one announcement has come; its word."""
        return self.wait(1, within)[0]

    def reached(self) -> list[str]:
        """The announcements that have come by now and were not yet waited for; never blocks."""
        try:
            while chunk := os.read(self._said, 65536):
                self._rest += chunk
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        return [line.decode() for line in lines]

    def release(self, count: int = 1) -> None:
        """Let `count` holders go, those that come later included."""
        os.write(self._go, b"." * count)

    def close(self) -> None:
        for fd in (self._said, self._go):
            if fd >= 0:
                os.close(fd)
        self._said = self._go = -1


def _readable(fd: int, deadline: float, complaint: str) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise AssertionError(f"{complaint} in time")


def eventually(probe: Callable[[], T], within: float = PATIENCE, what: str = "") -> T:
    """Call `probe` until it is true, and return what it gave.

    For states that nothing announces (the process table, mostly). Where a `Stage` can tell, use it.
    """
    deadline = time.monotonic() + within
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within} s: {what or probe}; last: {value!r}")
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """True while this process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def allowed(seconds: float) -> float:
    """A time that the contract promises. Where the machine is crowded, nothing that takes seconds
    says anything about us: then only a hang counts."""
    return PATIENCE if crowded() else seconds


def crowded() -> bool:
    """Do far more processes want to run than there are cores?"""
    wanting = os.getloadavg()[0]  # of the last minute
    try:
        wanting = max(wanting, int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1)
    except OSError:
        pass  # no Linux: who has come this very second is not known
    return wanting > 2 * cores()


@contextmanager
def busy(core: int) -> Iterator[None]:
    """Three others compute on this core."""
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}}); parent = os.getppid()\n"
        "while os.getppid() == parent: pass"
    )
    with ExitStack() as stack:
        for _ in range(3):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", code]))
            stack.callback(other.kill)
        yield


def wait_gone(pids: Iterable[int], within: float = PATIENCE) -> float:
    """Block until none of these processes is alive; how many seconds it took. Reaps nothing."""
    pids = list(pids)
    began = time.monotonic()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            continue
        try:
            _readable(fd, began + within, f"process {pid} did not end")
        finally:
            os.close(fd)
    eventually(
        lambda: not any(alive(pid) for pid in pids),
        within=max(0.1, began + within - time.monotonic()),
        what=f"the end of the processes {pids}",
    )
    return time.monotonic() - began


def opened(start_method: str, *, executor: bool) -> tuple[Any, Callable[..., Any]]:
    """An executor or a pool of two workers, and how a call is submitted to it for a future."""
    import andon  # the tools of these tests are tested without it

    if executor:
        pool: Any = andon.ProcessPoolExecutor(2, start_method=start_method)
        return pool, pool.submit
    pool = andon.Pool(2, start_method=start_method)
    return pool, lambda fn, *args: pool.apply_async(fn, args)._source


def run_python(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    timeout: float = 60.0,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run this Python with these arguments, in a session of its own; see `run`."""
    return run([sys.executable, *arguments], timeout=timeout, cwd=cwd, env=env, stdin=stdin)


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout: float = 60.0,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and give its output; `env` is added to our own environment.

    Past `timeout` its whole session is killed and the test fails with what it had said. The
    pipes are read to their end, so a child of the command that holds them is waited for as well.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**_environment(), **(env or {})},
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except BaseException as error:
            _kill_session(process.pid)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            out, err = process.communicate(timeout=5)
            raise AssertionError(
                f"{command} did not end within {timeout} s\n--- stdout\n{out}\n--- stderr\n{err}"
            ) from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _environment() -> dict[str, str]:
    """Our own, so that a child in another directory finds the same packages."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = os.pathsep.join(os.path.abspath(entry) for entry in path if entry)
    return {**os.environ, "PYTHONPATH": absolute}


def _kill_session(leader: int) -> None:
    """Kill a process that leads a session, and what descends from it or shares its group."""
    try:
        for child in psutil.Process(leader).children(recursive=True):
            child.kill()
        os.killpg(leader, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        pass
