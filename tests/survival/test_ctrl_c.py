"""Ctrl-C at a real terminal, at random moments, once and twice (S32).

However the program stands: it ends within the ladder's bound by one KeyboardInterrupt, with one
traceback at most and none of a worker; no task starts afterwards; no process is left.

`ANDON_CTRL_C=100` for a hundred moments per start method; the seed is in the test's name.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import _environment, _kill_session, allowed, dice, run_python
from tests.survival.test_parent import of_session

MOMENTS = int(os.environ.get("ANDON_CTRL_C", "7"))
SCENARIOS = (
    "by_map",
    "by_imap",
    "in_the_body",
    "at_the_join",
    "on_a_pool",
    "on_an_executor",
    "one_by_one",
    "nested",
)
GRACE, KILL_AFTER = 0.25, 0.25  # an interrupted program ends within their sum
PROGRAM = str(Path(__file__).with_name("interrupted.py"))
# The terminal becomes the controlling one of a new session; then the program takes our place.
LAUNCH = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
# What Python says of a key that comes while it leaves, in any program. (What we had kept for later
# does not come then: see test_S32_while_an_iterator_is_dropped.)
LEAVING = re.compile(
    r"Exception ignored (in: <module 'threading'|on threading shutdown|in atexit callback)"
)
HUNG = -999
SLACK = 1.0  # seconds; the contract's, beyond the ladder's own
LATE = 0.25  # seconds that the news of Ctrl-C may take to reach every worker's word


@dataclass
class Run:
    """What one interrupted program did."""

    status: int
    shown: str
    log: list[tuple[str, float, int]]
    keys: list[float]
    seconds: float
    left: list[int]

    def times(self, what: str) -> list[float]:
        return [at for word, at, _ in self.log if word == what]

    def story(self) -> str:
        first = self.keys[0] if self.keys else 0.0
        lines = [f"{at - first:+.4f} {word} {pid}" for word, at, pid in self.log]
        return "\n".join(
            [
                f"status {self.status}, over {self.seconds:.3f} s after the first key, "
                f"left {self.left}, keys {[k - first for k in self.keys]}",
                *lines[:5],
                "…",
                *lines[-12:],
                self.shown,
            ]
        )


def interrupt(
    scenario: str,
    method: str,
    log: Path,
    press: Callable[[Callable[[str], float]], list[float]],
) -> Run:
    """Run the program at a terminal. `press` says when the keys are to be pressed; it is given a
    function that waits for a word in the log and tells when it was said."""
    log.touch()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCH, *_command(scenario, method, log)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**_environment(), "PYTHON_COLORS": "0"},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    keys: list[float] = []

    def wait_for(word: str) -> float:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for line in log.read_text().splitlines():
                if line.startswith(word + " "):
                    return float(line.split()[1])
            read(0.001)
        raise AssertionError(f"no {word!r} in the log; shown:\n{shown.decode()}")

    def read(seconds: float) -> bool:
        nonlocal shown
        ready, _, _ = select.select([ours], [], [], seconds)
        if ready:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                return False  # everyone who had the terminal has gone
            shown += chunk
        return True

    try:
        for at in press(wait_for):
            while (left := at - time.monotonic()) > 0:
                read(left)
            keys.append(time.monotonic())
            os.write(ours, b"\x03")
        while read(0.02) and process.poll() is None:
            if time.monotonic() > keys[0] + 25:
                break
        seconds = time.monotonic() - keys[0]
        hung = process.poll() is None and not _ends(process)
        left = of_session(process.pid)
        if hung:
            process.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
            _ends(process)
        end = time.monotonic() + SLACK
        while left and time.monotonic() < end:
            time.sleep(0.01)
            left = of_session(process.pid)
        while select.select([ours], [], [], 0)[0]:
            if not read(0):
                break
        told = [
            (parts[0], float(parts[1]), int(parts[2]))
            for parts in map(str.split, log.read_text().splitlines())
        ]
        status = HUNG if hung else process.returncode
        return Run(status, shown.decode(errors="replace"), told, keys, seconds, left)
    finally:
        _kill_session(process.pid)
        process.wait()
        os.close(ours)


def _command(scenario: str, method: str, log: Path) -> list[str]:
    return [
        sys.executable,
        "-X",
        "faulthandler",
        PROGRAM,
        scenario,
        method,
        str(log),
        str(GRACE),
        str(KILL_AFTER),
    ]


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        return False
    return True


def check(run: Run, bound: float) -> None:
    story = run.story()
    assert run.left == [] and run.status != HUNG, story
    if "<frozen importlib" in run.shown or "Error calling __set_name__" in run.shown:
        return  # in an import, which raises, catches, notes and swallows as Python sees fit
    assert run.seconds < bound, story
    assert run.shown.count("Traceback (most recent call last)") <= 1, story
    for word in ("RemoteTraceback: ", "andon: worker", "Fatal Python error"):
        assert word not in run.shown, story
    finished = run.times("end")
    if finished and run.status == 0:  # the key came too late
        assert "Exception ignored" not in run.shown or LEAVING.search(run.shown), story
        return
    assert "Exception ignored" not in run.shown, story
    assert run.status in (-signal.SIGINT, 130), story
    assert run.shown.rstrip().endswith("KeyboardInterrupt") or finished, story
    starts = run.times("start")
    assert all(at < run.keys[0] + allowed(LATE) for at in starts), story
    for left in run.times("left"):
        assert all(at <= left for at in starts), story


def moments(method: str, kind: str) -> list[tuple[str, float]]:
    """(scenario, where in the program from 0, its start, to 1, its end), the same in every run."""
    rng = dice(method, kind)
    return [(SCENARIOS[i % len(SCENARIOS)], rng.random()) for i in range(MOMENTS)]


@pytest.fixture(scope="module")
def lengths() -> dict[tuple[str, str], float]:
    """How long each scenario takes undisturbed, measured once."""
    return {}


def length(
    lengths: dict[tuple[str, str], float], scenario: str, method: str, tmp_path: Path
) -> float:
    if (scenario, method) not in lengths:
        log = tmp_path / f"undisturbed-{scenario}"
        log.touch()
        subprocess.run(
            _command(scenario, method, log),
            env=_environment(),
            check=True,
            timeout=30,
        )
        times = [float(line.split()[1]) for line in log.read_text().splitlines()]
        lengths[scenario, method] = times[-1] - times[0]
    return lengths[scenario, method]


@pytest.mark.stress
@pytest.mark.timeout(120 + 5 * MOMENTS)
def test_S32_once(start_method: str, tmp_path: Path, lengths: dict[tuple[str, str], float]) -> None:
    for n, (scenario, share) in enumerate(moments(start_method, "once")):
        # A little beyond the end too: interpreters take their time to go.
        span = length(lengths, scenario, start_method, tmp_path) * 1.05

        def press(wait_for: Callable[[str], float], delay: float = share * span) -> list[float]:
            return [wait_for("begin") + delay]

        run = interrupt(scenario, start_method, tmp_path / f"log-{n}", press)
        try:
            check(run, GRACE + KILL_AFTER + allowed(SLACK))
        except AssertionError as error:
            raise AssertionError(f"moment {n}: {scenario} at {share:.3f}\n{error}") from None


@pytest.mark.stress
@pytest.mark.timeout(120 + 5 * MOMENTS)
def test_S32_twice(start_method: str, tmp_path: Path) -> None:
    """Tasks that only a kill ends, and twenty seconds of grace: the second key cuts that short."""
    # Two signals that come before Python has handled the first are one: signals do not queue.
    rng = dice(start_method, "twice")
    for n in range(max(4, MOMENTS // 3)):
        first, second = rng.uniform(0, 0.1), rng.uniform(0.15, 0.5)

        def press(
            wait_for: Callable[[str], float], first: float = first, second: float = second
        ) -> list[float]:
            at = wait_for("start") + first
            return [at, at + second]

        scenario = "with_stubborn_calls" if n % 2 else "with_stubborn_tasks"
        run = interrupt(scenario, start_method, tmp_path / f"log-{n}", press)
        try:
            check(run, second + allowed(SLACK))
        except AssertionError as error:
            raise AssertionError(
                f"moment {n}: {scenario}, {first:.3f}, {second:.3f}\n{error}"
            ) from None


@pytest.mark.stress
@pytest.mark.timeout(120 + 5 * MOMENTS)
def test_S32_three_times_in_quick_succession(
    start_method: str, tmp_path: Path, lengths: dict[tuple[str, str], float]
) -> None:
    """An impatient user. A traceback within a traceback is Python's own doing, once the scope has
    been left; nothing may be left behind all the same."""
    rng = dice(start_method, "impatient")
    for n in range(max(3, MOMENTS // 4)):
        scenario = SCENARIOS[n % len(SCENARIOS)]
        span = length(lengths, scenario, start_method, tmp_path)
        delays = sorted(rng.uniform(0.3 * span, span) for _ in range(3))

        def press(wait_for: Callable[[str], float], delays: list[float] = delays) -> list[float]:
            begin = wait_for("begin")
            return [begin + delay for delay in delays]

        run = interrupt(scenario, start_method, tmp_path / f"log-{n}", press)
        assert run.left == [], run.story()
        assert run.seconds < span + allowed(SLACK) + GRACE + KILL_AFTER, run.story()
        assert "RemoteTraceback: " not in run.shown, run.story()
        assert run.status in (0, -signal.SIGINT, 130), run.story()


@pytest.mark.parametrize(
    "work",
    [
        "work",
        "lambda i: i",
        "functools.partial(work)",
        "functools.partial(max, 0, key=lambda i: i)",
        "make()",
        "Callable()",
        "Callable().__call__",
    ],
)
def test_S32_no_reader_imports_what_the_caller_could(start_method: str, work: str) -> None:
    """It would go on as the main thread leaves, and an `exec` then makes Python exit with 1."""
    program = (
        "import andon, functools, sys, threading\n"
        "class Told:\n"
        "    def find_spec(self, name, *_):\n"
        "        print(name, threading.current_thread().name)\n"
        "def work(i): return i\n"
        "def make():\n"
        "    return lambda i: i\n"
        "class Callable:\n"
        "    def __call__(self, i): return i\n"
        "with andon.Pool(1, start_method=sys.argv[1]) as pool:\n"
        "    sys.meta_path.insert(0, Told())\n"
        f"    assert list(pool.imap({work}, iter(range(3)))) == [0, 1, 2]\n"
    )
    check_imports(program, start_method)


def test_S32_no_packer_imports_what_the_loop_could(start_method: str) -> None:
    program = (
        "import asyncio, andon.aio, sys, threading\n"
        "class Told:\n"
        "    def find_spec(self, name, *_):\n"
        "        print(name, threading.current_thread().name)\n"
        "def work(i): return i\n"
        "async def main():\n"
        "    async with andon.aio.TaskGroup(workers=1, start_method=sys.argv[1]) as tg:\n"
        "        sys.meta_path.insert(0, Told())\n"
        "        assert await tg.run(work, 1) == 1\n"
        "asyncio.run(main())\n"
    )
    check_imports(program, start_method)


def check_imports(program: str, start_method: str) -> None:
    result = run_python(["-c", program, start_method], timeout=30)
    assert result.returncode == 0, result.stderr
    told = result.stdout.splitlines()
    assert "cloudpickle MainThread" in told
    assert all(line.endswith(" MainThread") for line in told), told


def test_S32_the_stop_that_a_key_has_led_to_is_no_second_traceback() -> None:
    """A submission that the key comes into finds the group stopped, before the gate is left."""
    program = (
        "import signal, time, andon\n"
        "from andon._gate import gate\n"
        "with andon.TaskGroup(workers=1) as tg:\n"
        "    with gate:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        while tg.reason is None:\n"
        "            time.sleep(0.001)\n"
        "        tg.submit(abs, -1)\n"
    )
    result = run_python(["-c", program], timeout=15)
    assert result.returncode == -signal.SIGINT, result.stderr
    assert result.stderr.count("Traceback") == 1, result.stderr
    assert result.stderr.endswith("KeyboardInterrupt\n"), result.stderr


@pytest.mark.parametrize(
    ("after", "status", "said"),
    [("pass", 0, ""), ("time.sleep(20)", -signal.SIGINT, "KeyboardInterrupt")],
)
def test_S32_while_an_iterator_is_dropped(after: str, status: int, said: str) -> None:
    """There it would vanish, so it comes a moment later; a program that is over does not wait."""
    program = (
        "import itertools, signal, time, andon\n"
        "from andon._gate import gate\n"
        "def work(i): return i\n"
        "results = andon.imap(work, itertools.count(), workers=1)\n"
        "next(results)\n"
        "with gate:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    del results\n"
        f"{after}\n"
    )
    result = run_python(["-c", program], timeout=15)
    assert result.returncode == status, result.stderr
    assert result.stderr.strip().endswith(said) and bool(said) == bool(result.stderr)
