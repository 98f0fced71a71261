"""The account of a run: the lines of the results file, and the summary."""

from __future__ import annotations

import json
import signal
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from andon.cli.arguments import UsageError
from andon.cli.items import ListedItems
from andon.cli.results import open_results, record
from andon.cli.run import Ledger
from andon.cli.shell import CommandError
from andon.cli.summary import Tally, failure, shorten, summary
from andon.cli.task import ItemTask, plain
from andon.errors import GroupTimeoutError, RemoteTraceback, TaskExitError, TaskTimeoutError
from andon.outcome import Outcome, Reason, ReasonKind, StoppedBy, TaskState

TRACEBACK = """\
Traceback (most recent call last):
  File "/home/u/work.py", line 5, in parse
    return read(path)
           ^^^^^^^^^^
  File "/home/u/work.py", line 9, in read
    return 1 / 0
           ~~^~~
ZeroDivisionError: division by zero
"""


class Awkward(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def remote(error: BaseException, text: str = TRACEBACK) -> BaseException:
    error.__cause__ = RemoteTraceback(text)
    return error


def done(index: int, value: Any = None) -> Outcome:
    return Outcome(index, TaskState.SUCCEEDED, value, started_at=10.0, ended_at=10.25)


def failed(index: int, error: BaseException) -> Outcome:
    return Outcome(index, TaskState.FAILED, error=error, started_at=10.0, ended_at=11.0)


def stopped(index: int) -> Outcome:
    return Outcome(index, TaskState.CANCELLED, stopped_by=StoppedBy.INTERRUPT)


def never(index: int) -> Outcome:
    return Outcome(index, TaskState.CANCELLED, started=False, stopped_by=StoppedBy.NEVER_STARTED)


def told(
    outcomes: list[Outcome], reason: Reason | None = None, problems: Any = (), **more: Any
) -> str:
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome, f"f{outcome.index}")
    given: dict[str, Any] = {"signalled": None, "seconds": 1.5, "output": None, **more}
    return summary(tally, reason, list(problems), **given)


# Values ------------------------------------------------------------------------------------------


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


class Mute:
    def __repr__(self) -> str:
        raise ValueError


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (3, 3),
        ("ä", "ä"),
        ({"a": [1, 2.5, True]}, {"a": [1, 2.5, True]}),
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (float("nan"), "nan"),
        ({1, 2}, "{1, 2}"),
        (b"x", "b'x'"),
        (Opaque(), "<opaque>"),
        ([Opaque()], "[<opaque>]"),
        (Mute(), "<Mute: repr() raised ValueError>"),
        ({1: "x", 2: {None: "y"}}, {"1": "x", "2": {"null": "y"}}),
        ({1: "x", "1": "y"}, "{1: 'x', '1': 'y'}"),
        ([{True: 1, "true": 2}], "[{True: 1, 'true': 2}]"),
    ],
)
def test_a_value_is_made_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_a_value_that_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert plain(loop) == "[[...]]"


def test_a_value_that_nobody_reads_is_dropped() -> None:
    assert ItemTask(str.upper, keep=True)("x") == "X"
    assert ItemTask(str.upper, keep=False)("x") is None


# Lines -------------------------------------------------------------------------------------------


def test_the_line_of_a_success() -> None:
    assert record(done(3, {"n": 1}), "a.csv") == {
        "index": 3,
        "item": "a.csv",
        "state": "succeeded",
        "value": {"n": 1},
        "error": None,
        "cleanup_error": None,
        "started": True,
        "stopped_by": None,
        "seconds": 0.25,
        "stack": None,
    }


def test_the_line_of_a_failure() -> None:
    line = record(failed(0, remote(ZeroDivisionError("division by zero"))), "x")
    assert line["state"] == "failed"
    assert line["error"] == {
        "type": "ZeroDivisionError",
        "message": "division by zero",
        "traceback": TRACEBACK,
    }


def test_the_line_of_an_error_that_cannot_be_told() -> None:
    line = record(failed(0, Awkward()), "x")
    assert line["error"]["message"] == "<no message: str() raised RuntimeError>"
    assert line["error"]["type"].endswith("test_account.Awkward")


def test_the_line_of_an_item_that_never_started() -> None:
    line = record(never(7), "x")
    assert (line["state"], line["started"], line["stopped_by"], line["seconds"]) == (
        "cancelled",
        False,
        "never-started",
        None,
    )


def test_lines_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("old\n")
    results = open_results(str(path))
    assert results is not None
    with results:
        results.write(done(0, "\udcff"), "caf\udce9")
        (line,) = path.read_text().splitlines()
        assert json.loads(line)["item"] == "caf\udce9"


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--output .*: No such file or directory"):
        open_results(str(tmp_path / "no" / "r.jsonl"))


def test_the_list_of_items_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("a\n")
    with pytest.raises(UsageError, match="that is the file the items come from"):
        open_results(str(path), str(path))
    assert path.read_text() == "a\n"


def test_no_item_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    path.write_text("data\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="that is one of the items, and would be emptied"):
        open_results("./b.txt", None, ("a", "no\0path", str(path)))
    assert path.read_text() == "data\n"
    results = open_results("/dev/null", None, ("/dev/null",))
    assert results is not None
    with results:
        pass


# The ledger --------------------------------------------------------------------------------------


def test_every_item_is_accounted_for_once(tmp_path: Path) -> None:
    results = open_results(str(tmp_path / "r.jsonl"))
    assert results is not None
    items = ListedItems("abcdef")
    with results:
        ledger = Ledger(results, keep_going=False)
        fed = ledger.feed(items.read(lambda: False))
        assert [next(fed) for _ in range(4)] == ["a", "b", "c", "d"]
        ledger.record(done(1))
        ledger.record(failed(0, ValueError("x")))
        ledger.record(stopped(2))
        ledger.close(items, lambda: False)  # d was read and got no outcome; e and f were not read
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [1, 0, 2, 3, 4, 5]
    assert [line["item"] for line in lines] == list("bacdef")
    assert ledger.tally.counts() == "1 done, 1 failed, 1 stopped, 3 never started"


def test_a_results_file_that_breaks_does_not_break_the_account() -> None:
    results = open_results("/dev/full")
    assert results is not None
    with results:
        ledger = Ledger(results, keep_going=False)
        list(ledger.feed(ListedItems("ab").read(lambda: False)))
        ledger.record(done(0))
        assert isinstance(ledger.broken, OSError)
        ledger.record(done(1))
        assert ledger.tally.done == 2


def test_nothing_is_fed_once_the_account_is_closed() -> None:
    items = ListedItems("abc")
    ledger = Ledger(None, keep_going=False)
    fed = ledger.feed(items.read(lambda: False))
    assert next(fed) == "a"
    ledger.close(items, lambda: False)
    assert list(fed) == []
    assert ledger.tally.counts() == "0 done, 0 failed, 0 stopped, 3 never started"


# The summary -------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    assert told([done(0), done(1)]) == (
        "andon: 2 done, 0 failed, 0 stopped, 0 never started in 1.50 s\n"
    )


def test_a_failure_is_told_with_the_users_own_traceback() -> None:
    error = remote(ZeroDivisionError("division by zero"))
    text = told([done(0), failed(1, error), stopped(2), never(3), never(4)])
    assert text == (
        "andon: item 1 'f1' failed: ZeroDivisionError: division by zero\n"
        '    File "/home/u/work.py", line 5, in parse\n'
        "      return read(path)\n"
        '    File "/home/u/work.py", line 9, in read\n'
        "      return 1 / 0\n"
        "andon: 1 done, 1 failed, 1 stopped, 2 never started in 1.50 s\n"
    )


def test_the_failure_that_stopped_the_line_comes_first() -> None:
    reason = Reason(ReasonKind.FAILURE, "", 4, 0.0)
    text = told([failed(n, ValueError(str(n))) for n in range(5)], reason)
    assert [line.split()[2] for line in text.splitlines()[:-1]] == ["4", "0", "1", "2", "3"]


def test_many_failures_are_counted() -> None:
    outcomes = [failed(n, ValueError(str(n))) for n in range(12)]
    assert "andon: and 7 more failed; --output FILE records all of them\n" in told(outcomes)
    assert "andon: and 7 more failed; see r.jsonl\n" in told(outcomes, output="r.jsonl")


def test_a_command_that_failed() -> None:
    text = told([failed(0, CommandError("gzip -t f0", 1, "gzip: f0: not in gzip format"))])
    assert text.startswith(
        "andon: item 0 'f0' failed with exit status 1: gzip -t f0\n"
        "    gzip: f0: not in gzip format\n"
    )


def test_a_command_that_was_killed() -> None:
    text = told([failed(0, CommandError("echo 1", -signal.SIGPIPE, ""))])
    assert text.startswith("andon: item 0 'f0' was killed by SIGPIPE: echo 1\n")


def test_a_message_of_many_lines_and_our_own_errors() -> None:
    text = told([failed(0, TaskExitError("too long\nfor words", original=SystemExit()))])
    assert text.startswith(
        "andon: item 0 'f0' failed: TaskExitError: too long\n    for words\nandon: 0 done"
    )
    text = told([failed(0, TaskTimeoutError("task 0: ours('f0') ran longer", timeout=0.5))])
    assert text.startswith(
        "andon: item 0 'f0' failed: TaskTimeoutError: ran longer than its timeout of 0.5 s\nandon: "
    )


@pytest.mark.parametrize(
    ("reason", "signalled", "why"),
    [
        (Reason(ReasonKind.DEADLINE, "", None, 0.0), None, "stopped: the deadline passed"),
        (Reason(ReasonKind.CANCEL, "bad data", 2, 0.0), None, "stopped by item 2: bad data"),
        (Reason(ReasonKind.INTERRUPT, "Ctrl-C", None, 0.0), "SIGTERM", "stopped by SIGTERM"),
    ],
)
def test_why_it_stopped(reason: Reason, signalled: str | None, why: str) -> None:
    assert f"andon: {why}\n" in told([never(0)], reason, signalled=signalled)


def test_problems_that_belong_to_no_item() -> None:
    text = told([], problems=[OSError(28, "No space left on device")])
    assert text.startswith("andon: error: OSError: [Errno 28] No space left on device\n")


def test_clean_up_errors_are_shown() -> None:
    outcome = Outcome(0, TaskState.CANCELLED, cleanup_error=KeyError("k"))
    assert "andon: item 0 'f0': its clean-up failed: KeyError: 'k'\n" in told([outcome])


def test_a_traceback_without_a_frame_of_the_users_is_no_traceback() -> None:
    error = remote(TypeError("no b"), "Traceback (most recent call last):\nTypeError: no b\n")
    assert record(failed(0, error), "x")["error"]["traceback"] == "TypeError: no b\n"
    assert failure(failed(0, error), "x") == ["item 0 'x' failed: TypeError: no b"]


def test_a_long_traceback_is_shortened() -> None:
    frames = "".join(f'  File "w.py", line {n}, in f{n}\n    call {n}\n' for n in range(9))
    lines = shorten(f"Traceback (most recent call last):\n{frames}ValueError: x\n")
    assert lines == [
        'File "w.py", line 0, in f0',
        "  call 0",
        "... 5 more ...",
        'File "w.py", line 6, in f6',
        "  call 6",
        'File "w.py", line 7, in f7',
        "  call 7",
        'File "w.py", line 8, in f8',
        "  call 8",
    ]


def test_a_chain_is_shortened_to_its_last_error() -> None:
    text = (
        f"{TRACEBACK}\nThe above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "w.py", line 3, in g\n    raise E from e\nE: y\n'
    )
    assert shorten(text) == [
        'File "w.py", line 3, in g',
        "  raise E from e",
        "from ZeroDivisionError: division by zero",
    ]


def test_what_is_no_ordinary_traceback_is_bounded() -> None:
    assert shorten("\n".join(map(str, range(50)))) == ["...", *map(str, range(38, 50))]
    assert shorten("just this") == ["just this"]


def test_a_tasks_own_group_of_errors_is_one_failure() -> None:
    own = ExceptionGroup("own", [ValueError()])
    other = OSError()
    ledger = Ledger(None, keep_going=False)
    list(ledger.feed(ListedItems("a").read(lambda: False)))
    ledger.record(failed(0, own))
    late = GroupTimeoutError("late", unfinished=0)
    assert list(ledger.unknown(ExceptionGroup("", [late, own, other]))) == [other]
