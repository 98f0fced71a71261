"""joblib on andon: one call of `Parallel` is one group that stops at its first failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import pytest
from joblib import Parallel, delayed, parallel_config

import andon
import andon.joblib
from tests.facades.tasks import fail_when, pid, sleep_long, square
from tests.support import Stage, _environment, _kill_session, eventually, run_python, wait_gone

SQUARES = [x * x for x in range(30)]
MakeStage = Callable[..., Stage]


@pytest.fixture(autouse=True)
def on_andon() -> Iterator[None]:
    with parallel_config(backend="andon", n_jobs=2):
        yield
    andon.joblib.close_idle()


def squares(**options: Any) -> Any:
    return Parallel(**options)(delayed(square)(x) for x in range(30))


def test_results(start_method: str) -> None:
    with parallel_config(backend="andon", n_jobs=2, start_method=start_method):
        assert squares() == SQUARES
        assert squares(batch_size=7, pre_dispatch="all") == SQUARES
        assert list(squares(return_as="generator")) == SQUARES
        # Lambdas and closures travel as well.
        assert Parallel()(delayed(lambda x: -x)(x) for x in range(3)) == [0, -1, -2]


def test_unordered_results() -> None:
    if tuple(map(int, joblib.__version__.split(".")[:2])) < (1, 4):
        pytest.skip("this joblib knows no unordered generators")
    assert sorted(squares(return_as="generator_unordered")) == SQUARES


def test_how_many_jobs() -> None:
    everything = joblib.cpu_count()
    with parallel_config(backend="andon"):
        asked = [None, -1, -2, 1, 3]
        given = [joblib.effective_n_jobs(n) for n in asked]
        assert given == [everything, everything, max(1, everything - 1), 1, 3]
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)
        assert squares() == SQUARES  # n_jobs=None
        pids = Parallel(n_jobs=1)(delayed(pid)() for _ in range(3))
        assert set(pids) == {os.getpid()}  # no pool at all, as with every backend


def test_the_first_failure_stops_the_rest(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")

    def all_of_them() -> Iterator[Any]:
        yield delayed(sleep_long)(running)
        yield delayed(fail_when)(go)
        for _ in range(20):
            yield delayed(running.reach)("begun")

    errors: list[BaseException] = []

    def call() -> None:
        try:
            with parallel_config(backend="andon"):
                Parallel(n_jobs=2, batch_size=1)(all_of_them())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    sleeper = int(running.word())
    began = time.monotonic()
    go.release()
    thread.join(20)
    assert time.monotonic() - began < 10 and not thread.is_alive()
    wait_gone([sleeper], within=0.5)  # interrupted, and so replaced (S51)
    [error] = errors
    assert type(error) is ValueError and error.args == ("bad",)
    assert isinstance(error.__cause__, andon.RemoteTraceback)
    assert running.reached() == []  # what waited never began (S12)
    assert squares() == SQUARES


def test_a_failure_while_a_callback_submits(
    stage: MakeStage, caplog: pytest.LogCaptureFixture
) -> None:
    go = stage("go")
    backend, _ = joblib.parallel.get_active_backend()

    def calls() -> Iterator[Any]:
        yield delayed(fail_when)(go)
        yield delayed(square)(1)
        go.release()  # asked for by the callback of the second one
        eventually(lambda: backend._scope.group.reason is not None)
        yield delayed(square)(2)

    with pytest.raises(ValueError, match="bad"):
        Parallel(batch_size=1, pre_dispatch=2)(calls())
    assert caplog.records == []


def test_the_pool_stays_warm() -> None:
    def workers() -> set[int]:
        return set(Parallel(batch_size=1)(delayed(pid)() for _ in range(20)))

    first = workers()
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(divmod)(1, 0) for _ in range(3))
    with Parallel() as parallel:  # one that is entered keeps its pool between its calls, too
        assert parallel(delayed(square)(x) for x in range(3)) == [0, 1, 4]
        assert parallel(delayed(square)(x) for x in range(3)) == [0, 1, 4]
        with pytest.raises(ZeroDivisionError):
            parallel(delayed(divmod)(1, 0) for _ in range(3))
        assert parallel(delayed(square)(x) for x in range(3)) == [0, 1, 4]
    assert len(first | workers()) <= 2
    other = set(Parallel(n_jobs=3)(delayed(pid)() for _ in range(20)))
    assert not first & other
    wait_gone(first)  # of no use for three jobs
    andon.joblib.close_idle()
    wait_gone(other)


def test_idle_workers_end() -> None:
    for options in ({"idle_worker_timeout": 0.05}, {"idle_worker_timeout": 0}):
        with parallel_config(backend="andon", n_jobs=2, **options):
            wait_gone(set(Parallel()(delayed(pid)() for _ in range(9))))
    with parallel_config(backend="andon", n_jobs=2, start_method="fork"):  # its globals grow old
        wait_gone(set(Parallel()(delayed(pid)() for _ in range(9))))


def nested(stage: Stage | None, backend: str | None = None) -> tuple[str, list[int]]:
    active, _ = joblib.parallel.get_active_backend()
    call = delayed(square)(2) if stage is None else delayed(sleep_long)(stage)
    return type(active).__name__, Parallel(n_jobs=2, backend=backend)([call, call])


def test_parallel_inside_a_task(stage: MakeStage) -> None:
    """As joblib has it: threads at the first level. By name: a pool of the worker's own, which
    goes with the outer call (S37)."""
    names = Parallel()(delayed(nested)(None) for _ in range(2))
    assert names == [("ThreadingBackend", [4, 4])] * 2
    assert Parallel()(delayed(nested)(None, "andon") for _ in range(2)) == names
    running, go = stage("running"), stage("go")
    calls = [delayed(nested)(running, "andon"), delayed(fail_when)(go)]
    parallel = Parallel(batch_size=1, return_as="generator")
    results = parallel(calls)
    inner = [int(word) for word in running.wait(2)]
    go.release()
    with pytest.raises(ValueError, match="bad"):
        list(results)
    wait_gone(inner, within=1)


def variables() -> tuple[str | None, str | None]:
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")


def test_inner_threads() -> None:
    with parallel_config(backend="andon", n_jobs=2, inner_max_num_threads=3):
        assert Parallel()(delayed(variables)() for _ in range(2)) == [("3", "3")] * 2
    mine = os.environ.get("OMP_NUM_THREADS", str(max(1, joblib.cpu_count() // 2)))
    assert {v[0] for v in Parallel()(delayed(variables)() for _ in range(2))} == {mine}


def test_a_timeout(stage: MakeStage) -> None:
    running = stage("running")
    assert squares() == SQUARES  # the workers are there
    with pytest.raises(joblib.parallel.TimeoutError):
        Parallel(timeout=1)(delayed(sleep_long)(running) for _ in range(2))
    wait_gone([int(word) for word in running.wait(2)], within=0.5)


def test_generators(stage: MakeStage) -> None:
    """Two at a time, though `parallel_config` has one backend; and one that is left midway."""
    one, two = (squares(return_as="generator", batch_size=1) for _ in range(2))
    assert [next(each) for _ in range(30) for each in (one, two)] == [
        x for x in SQUARES for _ in range(2)
    ]
    running = stage("running")
    results = Parallel(return_as="generator", batch_size=1)(
        [delayed(square)(2), delayed(sleep_long)(running), delayed(sleep_long)(running)]
    )
    assert next(results) == 4
    sleepers = [int(word) for word in running.wait(2)]
    with pytest.warns(UserWarning, match="have been cancelled"):
        results.close()
    wait_gone(sleepers, within=0.5)


def test_what_goes_wrong() -> None:
    with pytest.raises(andon.SerializationError, match=r"\(a _thread\.lock\)"):
        Parallel()(delayed(square)(threading.Lock()) for _ in range(3))
    # Also out of the callback that submits the rest.
    arguments = iter([1, 2, 3, 4, 5, 6, threading.Lock()])
    with pytest.raises(andon.SerializationError, match=r"\(a _thread\.lock\)"):
        Parallel(batch_size=1, pre_dispatch=2)(delayed(abs)(x) for x in arguments)
    with pytest.raises(andon.WorkerDiedError):
        Parallel()(delayed(os.kill)(0, signal.SIGKILL) for _ in range(1))
    with pytest.raises(andon.TaskExitError):
        Parallel()(delayed(sys.exit)(0) for _ in range(3))
    with pytest.raises(ValueError, match="start_method"):
        with parallel_config(backend="andon", n_jobs=2, start_method="thread"):
            squares()
    with pytest.raises(ValueError, match="idle_worker_timeout must be at least 0"):
        parallel_config(backend="andon", idle_worker_timeout=-1)
    assert squares() == SQUARES


def test_from_many_threads() -> None:
    results: list[Any] = []

    def call() -> None:
        results.append(squares(backend="andon", n_jobs=2))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [SQUARES] * 4


def test_after_a_fork() -> None:
    """A child has warm workers of its own (S38)."""
    program = (
        "import os, joblib, andon.joblib\n"
        "from joblib import Parallel, delayed\n"
        "from tests.facades.tasks import pid\n"
        "def call():\n"
        "    return set(Parallel(2, backend='andon')(delayed(pid)() for _ in range(20)))\n"
        "mine = call()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(len(mine & call()))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(mine | call()) <= 2)\n"
    )
    result = run_python(["-W", "ignore::DeprecationWarning", "-c", program])
    assert (result.stdout, result.stderr) == ("0 True\n", "")


CTRL_C = """\
import sys, joblib, andon.joblib
from tests.support import Stage
from tests.facades.tasks import sleep_long
with joblib.parallel_config(backend="andon", n_jobs=2):
    joblib.Parallel()(joblib.delayed(sleep_long)(Stage(sys.argv[1])) for _ in range(9))
"""


def test_ctrl_c(stage: MakeStage) -> None:
    running = stage("running")
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, running.path],
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    try:
        sleepers = [int(word) for word in running.wait(2)]
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            _kill_session(process.pid)
            process.communicate()
    wait_gone(sleepers, within=0.5)
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt"), err
    assert running.reached() == []


def test_without_joblib() -> None:
    program = "import sys; sys.modules['joblib'] = None; import andon.joblib"
    result = run_python(["-c", program])
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("pip install joblib")
