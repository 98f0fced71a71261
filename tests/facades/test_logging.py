"""What tasks log and warn of reaches the parent's handlers and filters: once, and in order."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import andon
from andon._runtime import listener
from andon._worker import relay, warned
from tests.facades.talkers import (
    Coded,
    Prefixed,
    Spoken,
    chatter,
    complain,
    talk,
    talk_and_die,
    talk_in_a_child,
    talk_in_a_pool,
    talk_in_threads,
    warn,
    warn_of_its_own,
    warn_of_no_module,
)
from tests.facades.tasks import sleep_long, square
from tests.support import PATIENCE, Stage, eventually, run_python, wait_gone


class Heard(logging.Handler):
    """Keeps records; `hold` keeps whoever hands over one, until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.busy, self.go = threading.Event(), threading.Event()
        self.go.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.busy.set()
        assert self.go.wait(PATIENCE)
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    logger = logging.getLogger("talkers")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.getLogger("talkers.noisy").setLevel(logging.ERROR)
    yield handler
    handler.go.set()
    logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    logging.getLogger("talkers.noisy").setLevel(logging.NOTSET)


def test_each_record_once_with_its_process_and_task(start_method: str, heard: Heard) -> None:
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        pids = [*tg.map(talk, range(8), chunksize=4), tg.submit(talk, 8).result()]
    assert sorted(heard.texts) == [f"item {n}" for n in range(9)]
    for record in heard.records:
        item = int(record.getMessage().split()[1])
        assert vars(record)["andon_task"] == item
        assert vars(record)["andon_group"] == 1
        assert (record.process, record.name) == (pids[item], "talkers")
        assert record.processName is not None and record.processName.startswith("AndonWorker-")
        assert (record.levelname, record.funcName, record.args) == ("INFO", "talk", None)
        assert vars(record)["tenant"] == "t1"
        assert vars(record)["pair"] == (1, 2)
        assert vars(record)["odd"] == "<Unpicklable>"


def test_an_error_in_a_record_comes_as_text(heard: Heard) -> None:
    andon.map(complain, [3], workers=1)
    (record,) = heard.records
    shown = logging.Formatter("%(message)s").format(record)
    assert shown.startswith("it went wrong\nTraceback") and shown.endswith("ValueError: bad 3")
    assert "in complain" in shown


def test_records_come_before_the_outcome(start_method: str, heard: Heard) -> None:
    with andon.Pool(1, start_method=start_method) as pool:
        heard.go.clear()
        result = pool.apply_async(talk, (1,))
        assert heard.busy.wait(PATIENCE)
        assert not result.ready() and not heard.records
        heard.go.set()
        result.get(PATIENCE)
        assert heard.texts == ["item 1"]


def test_a_slow_handler_does_not_hold_up_a_stop(stage: Callable[..., Stage], heard: Heard) -> None:
    running = stage()
    with andon.Pool(2, timeout=0.3, grace=0, kill_after=0) as pool:
        heard.go.clear()
        first = pool.apply_async(talk, (1,))
        assert heard.busy.wait(PATIENCE)
        late = pool.apply_async(sleep_long, (running,))
        wait_gone([int(running.word())])
        assert not late.ready()
        heard.go.set()
        first.get(PATIENCE)
        with pytest.raises(andon.TaskTimeoutError):
            late.get(PATIENCE)


def test_a_handler_that_waits_for_its_own_pool_is_told(heard: Heard) -> None:
    """It would wait for what waits for it."""
    told: list[str] = []

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                pool.apply(square, (2,))
            except RuntimeError as error:
                told.append(str(error))

    asks = Asks()
    logging.getLogger("talkers").addHandler(asks)
    try:
        with andon.Pool(1) as pool:
            pool.apply(talk, (1,))
    finally:
        logging.getLogger("talkers").removeHandler(asks)
    assert len(told) == 1 and "runs its log handlers" in told[0]


def test_a_worker_that_dies_loses_nothing_that_it_had_said(
    start_method: str, heard: Heard
) -> None:
    with pytest.raises(andon.WorkerDiedError):
        andon.map(talk_and_die, [5], workers=1, start_method=start_method)
    assert heard.texts == ["last words 5"]


def test_who_logs_more_than_is_heard_waits_and_can_be_stopped(
    stage: Callable[..., Stage], heard: Heard
) -> None:
    running, size = stage(), 10_000
    heard.go.clear()
    with andon.Pool(1) as pool:
        with andon.TaskGroup(pool=pool) as tg:
            tg.submit(chatter, running, size)
            running.wait()
            assert heard.busy.wait(PATIENCE)
            tg.cancel()
            eventually(lambda: all(row.attempt is None for row in pool._runtime.look()))
            heard.go.set()
        (outcome,) = tg.outcomes
    assert outcome.state == "cancelled" and outcome.stopped_by in ("interrupt", "token")
    assert len(heard.records) <= relay._AHEAD / size + 3


def test_S17_interrupts_leave_the_records_whole(stage: Callable[..., Stage], heard: Heard) -> None:
    running = stage()
    with andon.Pool(1, reuse_interrupted=True) as pool:
        for n in range(30):
            with andon.TaskGroup(pool=pool) as tg:
                tg.submit(chatter, running, n * 400)
                running.wait()
                tg.cancel()
        assert pool.apply(square, (3,)) == 9
        assert {row.pid for row in pool._runtime.look()} and heard.texts.count("begun") == 30
    assert {len(text) for text in heard.texts} - {n * 400 for n in range(30)} == {len("begun")}


def test_threads_of_a_task_and_its_answers_do_not_mix(heard: Heard) -> None:
    assert andon.map(talk_in_threads, [50] * 6, workers=2, chunksize=2) == [50] * 6
    wanted = [f"{i} {'y' * (i % 7 * 1000)}" for i in range(50)] * 24
    assert sorted(heard.texts) == sorted(wanted)


def test_a_child_of_a_task_does_not_speak_in_its_name(start_method: str, heard: Heard) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks with threads, and the child's own
        assert andon.map(talk_in_a_child, [1, 2], workers=1, start_method=start_method) == [1, 2]
    assert heard.texts == ["from the worker"] * 2


def test_a_pool_within_a_task(start_method: str, heard: Heard) -> None:
    (pid,) = andon.map(talk_in_a_pool, [start_method], workers=1, start_method=start_method)
    assert [(r.getMessage(), r.process, vars(r)["andon_task"]) for r in heard.records] == [
        ("item 7", pid, 0)
    ]


def test_a_worker_does_not_load_logging_by_itself() -> None:
    test = "'logging' in __import__('sys').modules"
    assert logging.getLogger().handlers, "pytest's own"
    with andon.Pool(1, start_method="spawn") as pool:
        assert pool.apply(eval, (test,)) is False
        assert pool.apply(eval, ("len(__import__('logging').root.handlers)",)) == 1


# Programs ----------------------------------------------------------------------------------------

LOUD = """
import logging, sys
log = logging.getLogger("loud")
handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(logging.Formatter("loud: %(message)s"))
log.addHandler(handler)
def work(n):
    log.warning("once")
def set_up():
    logging.basicConfig(format="worker: %(message)s")
"""


@pytest.mark.parametrize(
    ("set_up", "options", "wanted"),
    [
        ("", "", "loud: once\n"),
        ("loud.log.handlers.clear()", "", "once\n"),
        ("loud.log.handlers.clear()", "initializer=loud.set_up,", "worker: once\n"),
        (
            "loud.log.handlers.clear(); logging.basicConfig(format='parent: %(message)s')",
            "initializer=loud.set_up,",
            "parent: once\n",
        ),
        (
            "logging.basicConfig(format='parent: %(message)s')",
            "",
            "loud: once\nparent: once\n",
        ),
    ],
    ids=["at import", "nothing set up", "set up in workers", "set up in both", "both in parent"],
)
def test_handlers_of_a_program(
    start_method: str, tmp_path: Path, set_up: str, options: str, wanted: str
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    if "clear" in set_up:  # as if no module had set one up
        (tmp_path / "loud.py").write_text(LOUD.replace("log.addHandler(handler)", ""))
    source = (
        f"import andon, logging, loud\n{set_up}\n"
        f"andon.map(loud.work, [1], workers=1, {options} start_method={start_method!r})\n"
    )
    done = run_python(["-c", source], cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", wanted)


# Warnings ----------------------------------------------------------------------------------------


def warn_in_two_workers(start_method: str) -> None:
    with andon.Pool(2, start_method=start_method) as pool:
        pids: set[int] = set()
        while len(pids) < 2:
            pids.update(pool.map(warn, range(4), chunksize=1))


def test_a_place_warns_once_and_not_once_a_worker(start_method: str) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        warn_in_two_workers(start_method)
    ours = [w for w in shown if w.filename.endswith("talkers.py")]
    assert [(w.category, str(w.message)) for w in ours] == [
        (UserWarning, "take care"),
        (DeprecationWarning, "old ways"),
    ]


def test_the_parents_filters_decide(start_method: str) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.filterwarnings("always", module=r"tests\.facades\.talkers")
        warnings.filterwarnings("ignore", "TAKE", UserWarning)
        warn_in_two_workers(start_method)
        warnings.filterwarnings("error", category=DeprecationWarning)
        with pytest.raises(DeprecationWarning, match="old ways"):
            andon.map(warn, [1], workers=1, start_method=start_method)
    ours = [str(w.message) for w in shown if w.filename.endswith("talkers.py")]
    assert set(ours) == {"old ways"} and len(ours) >= 4


FILTERED = """
import warnings, andon
class Mine(UserWarning): pass
def warn(kind):
    warnings.warn("careful", kind)
    return "ok"
def warn_of_a_library(n):
    import library
    return warn(library.Derived)
def warn_of_mine(n): return warn(Mine)
def warn_of_both(n): return warn(UserWarning)
if __name__ == "__main__":
    import library
    with andon.Pool(1, start_method={0!r}) as pool: pool.apply(len, ("",))  # a template is there
    def told(fn):
        try: return andon.map(fn, [1], workers=1, start_method={0!r})[0]
        except Warning as error: return type(error).__name__
    for action, others in ("ignore", "error"), ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(others)
            warnings.simplefilter(action, library.Base)
            warnings.simplefilter(action, Mine)
            print(*map(told, (warn_of_a_library, warn_of_mine, warn_of_both)))
"""


def test_filters_for_classes_that_a_worker_loads_later(start_method: str, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(
        "class Base(UserWarning): pass\nclass Derived(Base): pass\n"
    )
    script = tmp_path / "script.py"
    script.write_text(FILTERED.format(start_method))
    done = run_python([script])
    assert (done.stdout, done.stderr) == ("ok ok UserWarning\nDerived Mine ok\n", "")


def test_filters_for_such_classes_are_handed_on() -> None:
    """To the workers of a pool within a task."""
    wanted = [("error", None, ("nowhere", "A.B"), None, 0), ("always", "x", ("a", "W"), None, 3)]
    with warnings.catch_warnings():
        warned.install(None, wanted)  # type: ignore[arg-type]
        assert warned.filters() == wanted


def shown_of(fn: Callable[[int], None], start_method: str) -> list[tuple[type[Warning], str, str]]:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module="multiprocessing")
        andon.map(fn, [1], workers=1, start_method=start_method)
    return [(w.category, str(w.message), Path(w.filename).name) for w in shown]


def test_a_warning_that_no_module_gave_is_shown(start_method: str) -> None:
    (kind, _, file), explicit, too_deep = shown_of(warn_of_no_module, start_method)
    assert (kind, file) == (SyntaxWarning, "given.py")
    assert explicit == (UserWarning, "explicit", "template.html")
    assert too_deep[:2] == (UserWarning, "too deep") and too_deep[2].strip("<>") == "sys"


def test_a_warning_that_cannot_be_made_of_its_text_is_shown(
    start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    shown = shown_of(warn_of_its_own, start_method)
    assert [text for _, text, _ in shown] == ["7: careful", "code 8", "prefixed: careful"]
    assert {file for _, _, file in shown} == {"talkers.py"}
    for (category, *_), own in zip(shown, (Coded, Spoken, Prefixed), strict=True):
        assert issubclass(category, own), "filters for its class hold"
        assert category.__qualname__ == own.__qualname__
    assert not Spoken.subclasses, "no code of the class's own runs"
    assert not caplog.records


def test_a_place_warns_once_of_what_cannot_be_made_of_its_text(start_method: str) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        for _ in range(2):
            andon.map(warn_of_its_own, [1, 2], workers=1, start_method=start_method)
    ours = [w for w in shown if w.filename.endswith("talkers.py")]
    assert [str(w.message) for w in ours] == ["7: careful", "code 8", "prefixed: careful"]
    assert ours[1].category is listener._telling(Spoken)


def test_a_warning_of_a_worker_on_the_terminal(tmp_path: Path) -> None:
    """The parent's filter for `__main__` holds for functions of the script, wherever they run."""
    script = tmp_path / "script.py"
    script.write_text(
        "import andon, warnings\n"
        "def work(n):\n"
        "    warnings.warn('here', DeprecationWarning)\n"
        "andon.map(work, range(20), workers=2, chunksize=1)\n"
    )
    done = run_python([script])
    assert done.stderr == (
        f"{script}:3: DeprecationWarning: here\n  warnings.warn('here', DeprecationWarning)\n"
    )
