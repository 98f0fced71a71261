"""`andon run`, from outside: what it does with items, and what it says at the end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import andon as andon_package
from andon.cli import main
from tests.cli.command import andon, environment, read_results, started
from tests.support import Stage, eventually, run_python

WORK = """
import os, sys, time
import andon
from tests.support import Stage

class OddError(Exception):
    def __init__(self, a, b):
        super().__init__(a)

def upper(item):
    return item.upper()

def say(item):
    print("said", item)

def check(item):
    if item.startswith("bad"):
        inner(item)
    return len(item)

def inner(item):
    raise ValueError(f"{item} is no good")

def odd(item):
    raise OddError("odd", item)

def wait_or_fail(item):
    here, go = Stage(os.environ["HERE"]), Stage(os.environ["GO"])
    if item == "bad":
        go.hold()
        raise ValueError("bad")
    here.reach(item)
    time.sleep(60)

def several(item):
    raise ExceptionGroup("many", [ValueError("a"), KeyError("b")])

def stop(item):
    if item == "3":
        andon.current_token().cancel("enough of this")
    andon.sleep(0.01)

def sleep(item):
    time.sleep(float(item))

def leave(item):
    sys.exit(0)

def die(item):
    os._exit(7)

def opaque(item):
    return lambda: item
"""

BROKEN = """
import sys
from andon.cli import main, run
from andon.cli.items import ListedItems

class Broken(ListedItems):
    def rest(self, *_):
        raise OSError(5, "Input/output error")

run.open_items = lambda *_: Broken(["a", "b"])
if __name__ == "__main__":
    sys.exit(main(["run", "true", "a", "b"]))
"""

HUNG_UP = """
import sys
from andon.cli import main, run

class Terminal:
    def start(self, total):
        self.write("start")

    def update(self, snapshot):
        self.write("update")

    def finish(self, snapshot, reason):
        self.write("finish")

    def write(self, what):
        if what == sys.argv[1]:
            raise OSError(5, "Input/output error")

run.bar = lambda **_: Terminal()
if __name__ == "__main__":
    sys.exit(main(["run", "--progress", "true", "a", "b"]))
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


def last(text: str) -> str:
    return text.splitlines()[-1]


@pytest.mark.parametrize("target", ["work.py:upper", "work:upper", "./work.py:upper"])
def test_a_function(target: str, here: Path) -> None:
    done = andon("run", target, "a", "b", "c", "-o", "r.jsonl", cwd=here)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("andon: 3 done, 0 failed, 0 stopped, 0 never started in ")
    assert done.stderr.count("\n") == 1
    lines = read_results(here / "r.jsonl")
    assert [(n["item"], n["state"], n["value"]) for n in lines] == [
        ("a", "succeeded", "A"),
        ("b", "succeeded", "B"),
        ("c", "succeeded", "C"),
    ]
    assert all(n["started"] is True and 0 <= n["seconds"] < 30 for n in lines)


def test_a_function_of_a_file_with_an_odd_name(here: Path) -> None:
    (here / "work.py").rename(here / "my-script.py")
    done = andon("run", "my-script.py:upper", "a", "-o", "r.jsonl", cwd=here)
    assert done.returncode == 0, done.stderr
    assert read_results(here / "r.jsonl")[0]["value"] == "A"


def test_a_shell_command(here: Path) -> None:
    (here / "a b").write_text("x")
    done = andon("run", "cat {} && echo '' from {}", "a b", cwd=here)
    assert (done.returncode, done.stdout) == (0, "x from a b\n")


def test_what_tasks_print_is_seen(here: Path) -> None:
    done = andon("run", "work.py:say", "a", "b", "-j1", cwd=here)
    assert done.stdout == "said a\nsaid b\n"


def test_a_failure_stops_the_line(
    here: Path, stage: Callable[..., Stage], start_method: str
) -> None:
    reached, go = stage("here"), stage("go")
    items = ["one", "bad", "two", *(f"late{n}" for n in range(200))]
    arguments = ["run", "work.py:wait_or_fail", *items, "-j3", "-o", "r.jsonl"]
    arguments += ["--start-method", start_method]
    with started(*arguments, cwd=here, HERE=reached.path, GO=go.path) as process:
        reached.wait(2)
        go.release()
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 1, err
    first, *more = err.splitlines()
    assert first == "andon: item 1 'bad' failed: ValueError: bad"
    assert f'    File "{here}/work.py", line ' in more[0] and "wait_or_fail" in more[0]
    assert more[1].strip() == 'raise ValueError("bad")'
    assert more[2].startswith("andon: 0 done, 1 failed, 2 stopped, 200 never started in ")
    assert len(more) == 3
    lines = read_results(here / "r.jsonl")
    assert [n["item"] for n in lines] == items
    states = [n["state"] for n in lines]
    assert states == ["cancelled", "failed", *["cancelled"] * 201]
    assert [n["stopped_by"] for n in lines[:3:2]] == ["interrupt", "interrupt"]
    assert all(n["stopped_by"] == "never-started" for n in lines[3:])
    assert [n["started"] for n in lines] == [True, True, True, *[False] * 200]
    assert lines[1]["error"]["type"] == "ValueError"
    assert lines[1]["error"]["traceback"].startswith("Traceback (most recent call last):\n")


def test_keep_going(here: Path) -> None:
    items = ["a", "bad1", "b", "bad2", "c"]
    done = andon("run", "work.py:check", *items, "-k", "-o", "r.jsonl", cwd=here)
    assert done.returncode == 1
    assert "andon: item 1 'bad1' failed: ValueError: bad1 is no good\n" in done.stderr
    assert "andon: item 3 'bad2' failed: ValueError: bad2 is no good\n" in done.stderr
    assert last(done.stderr).startswith("andon: 3 done, 2 failed, 0 stopped, 0 never started in ")
    lines = read_results(here / "r.jsonl")
    assert [n["value"] for n in lines] == [1, None, 1, None, 1]


@pytest.mark.parametrize("name", ["work.py", "my-script.py"])
def test_the_traceback_is_the_users_own(name: str, here: Path) -> None:
    (here / "work.py").rename(here / name)
    done = andon("run", f"{name}:check", "bad", cwd=here)
    lines = done.stderr.splitlines()
    assert [line.split(", in ")[-1] for line in lines if "File" in line] == ["check", "inner"]


def test_a_group_of_errors_is_one_failure(here: Path) -> None:
    done = andon("run", "work.py:several", "x", cwd=here)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("andon: ")]
    assert told[0] == "andon: item 0 'x' failed: ExceptionGroup: many (2 sub-exceptions)"
    assert len(told) == 2
    assert "andon/cli" not in done.stderr


def test_an_error_that_cannot_travel_is_still_told(here: Path) -> None:
    done = andon("run", "work.py:odd", "a", "-o", "r.jsonl", cwd=here)
    assert done.returncode == 1
    assert "odd" in done.stderr and "OddError" in done.stderr


def test_a_timeout_is_a_failure(here: Path) -> None:
    arguments = ["run", "work.py:sleep", "60", "-j1", "--timeout", "0.2", "-o", "r.jsonl"]
    done = andon(*arguments, cwd=here)
    assert done.returncode == 1
    message = "ran longer than its timeout of 0.2 s"
    assert f"andon: item 0 '60' failed: TaskTimeoutError: {message}\n" in done.stderr
    (line,) = read_results(here / "r.jsonl")
    error = line["error"]
    where = error.pop("traceback")
    assert (line["state"], error) == (
        "failed",
        {"type": "andon.errors.TaskTimeoutError", "message": message},
    )
    # A line of the user's, and none of ours.
    assert "time.sleep(" in where and "andon/cli" not in where
    assert "time.sleep(" in done.stderr


def test_a_deadline(here: Path) -> None:
    arguments = ["run", "work.py:sleep", "60", "60", "-j1", "--deadline", "0.5", "-o", "r.jsonl"]
    done = andon(*arguments, cwd=here)
    assert done.returncode == 1
    assert "andon: stopped: the deadline passed\n" in done.stderr
    assert last(done.stderr).startswith("andon: 0 done, 0 failed, ")
    assert [n["state"] for n in read_results(here / "r.jsonl")] == ["cancelled", "cancelled"]


def test_a_task_stops_the_line_without_a_failure(here: Path) -> None:
    items = [str(n) for n in range(50)]
    done = andon("run", "work.py:stop", *items, "-j1", "-o", "r.jsonl", cwd=here)
    assert done.returncode == 1
    assert "stopped by item 3: enough of this\n" in done.stderr
    assert len(read_results(here / "r.jsonl")) == 50


@pytest.mark.parametrize(
    ("function", "told"),
    [("leave", "SystemExit"), ("die", "WorkerDiedError")],
)
def test_a_task_that_leaves_is_a_failure(function: str, told: str, here: Path) -> None:
    done = andon("run", f"work.py:{function}", "a", cwd=here)
    assert done.returncode == 1
    assert done.stderr.startswith("andon: item 0 'a' failed: ") and told in done.stderr


@pytest.mark.parametrize("output", [[], ["-o", "r.jsonl"]])
def test_a_value_that_cannot_travel_is_no_failure(output: list[str], here: Path) -> None:
    done = andon("run", "work.py:opaque", "a", *output, cwd=here)
    assert done.returncode == 0, done.stderr
    if output:
        assert "<lambda>" in read_results(here / "r.jsonl")[0]["value"]


# Items -------------------------------------------------------------------------------------------


def test_items_from_a_file(here: Path) -> None:
    (here / "list").write_text("".join(f"{n}\n" for n in range(1000)))
    done = andon("run", "work.py:upper", "--from", "list", "-o", "r.jsonl", cwd=here)
    assert done.returncode == 0, done.stderr
    assert [n["value"] for n in read_results(here / "r.jsonl")] == [str(n) for n in range(1000)]


def test_items_from_standard_input_with_nul(here: Path) -> None:
    stdin = "a\nb\0c\0"
    done = andon(
        "run", "work.py:upper", "--from", "-", "-0", "-o", "r.jsonl", cwd=here, stdin=stdin
    )
    assert done.returncode == 0, done.stderr
    assert [n["item"] for n in read_results(here / "r.jsonl")] == ["a\nb", "c"]


def test_no_items_at_all_is_fine(here: Path) -> None:
    done = andon("run", "work.py:upper", "--from", "-", cwd=here, stdin="")
    assert done.returncode == 0
    assert done.stderr.startswith("andon: 0 done, ")


def test_a_slow_pipe_is_worked_on_as_it_comes(here: Path) -> None:
    arguments = ["run", "work.py:upper", "--from", "-", "-o", "r.jsonl"]
    path = here / "r.jsonl"
    path.touch()

    def written(count: int) -> bool:
        return len(read_results(path)) == count

    with started(*arguments, cwd=here, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for n in range(30):
            process.stdin.write(f"{n}\n")
            process.stdin.flush()
            eventually(partial(written, n + 1))
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_failure_ends_the_wait_for_a_silent_pipe(here: Path) -> None:
    arguments = ["run", "work.py:check", "--from", "-"]
    with started(*arguments, cwd=here, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("good\nbad\n")
        process.stdin.flush()
        # The pipe stays open.
        assert process.wait(60) == 1
        assert process.stderr is not None
        err = process.stderr.read()
    assert "item 1 'bad' failed" in err
    assert "the input was not read to its end" in last(err)


def test_an_endless_input_is_read_lazily(here: Path) -> None:
    r, w = os.pipe()
    with subprocess.Popen(["sh", "-c", "yes a | head -5000; yes bad"], stdout=w) as endless:
        os.close(w)
        with started("run", "work.py:check", "--from", "-", cwd=here, stdin=r) as process:
            os.close(r)
            err = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        endless.wait(20)  # of SIGPIPE
    assert "failed: ValueError: bad is no good" in err


def test_the_rest_of_a_list_is_accounted_for(here: Path) -> None:
    (here / "list").write_text("bad\n" + "x\n" * 5000)
    arguments = ["run", "work.py:check", "--from", "list", "-j1", "-o", "r.jsonl"]
    done = andon(*arguments, cwd=here)
    assert done.returncode == 1
    assert "1 failed, 0 stopped, 5000 never started" in last(done.stderr)
    assert len(read_results(here / "r.jsonl")) == 5001


@pytest.mark.parametrize("how", ["deadline", "signal"])
def test_an_input_that_never_pauses_and_holds_no_item_can_be_stopped(how: str, here: Path) -> None:
    arguments = ["run", "work.py:upper", "--from", "-", "-o", "r.jsonl"]
    arguments += ["--deadline", "0.5"] if how == "deadline" else []
    r, w = os.pipe()
    with subprocess.Popen(["sh", "-c", "echo a; exec yes ''"], stdout=w) as endless:
        os.close(w)
        with started(*arguments, cwd=here, stdin=r) as process:
            os.close(r)
            if how == "signal":
                eventually(lambda: (here / "r.jsonl").exists() and read_results(here / "r.jsonl"))
                process.terminate()
            err = process.communicate(timeout=30)[1]
        assert process.returncode == (1 if how == "deadline" else 143)
        endless.wait(20)  # of SIGPIPE
    assert "Traceback" not in err
    assert "; the input was not read to its end in " in last(err)


def test_an_input_without_an_end_of_a_line_is_told(here: Path) -> None:
    done = andon("run", "work.py:upper", "--from", "/dev/zero", cwd=here, timeout=30)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("andon: error: andon.cli.items.InputError: no end of a line in ")
    assert second.startswith("andon: 0 done, 0 failed, 0 stopped, 0 never started; the input was ")


def test_an_error_of_reading_the_rest_is_told(here: Path) -> None:
    done = run_python(["-c", BROKEN], cwd=here, env=environment())
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "andon: error: OSError: [Errno 5] Input/output error"
    assert second.startswith("andon: 2 done, 0 failed, 0 stopped, 0 never started in ")


@pytest.mark.parametrize("when", ["start", "update", "finish"])
def test_a_display_that_fails_is_no_failure_of_the_run(when: str, here: Path) -> None:
    done = run_python(["-c", HUNG_UP, when], cwd=here, env=environment())
    assert done.returncode == 0
    assert done.stderr.startswith("andon: 2 done, 0 failed, 0 stopped, 0 never started in ")
    assert done.stderr.count("\n") == 1


# Refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere.py:f", "a"],
        ["work.py:nothing", "a"],
        ["work.py:WORK", "a"],
        ["no_such_module_y:f", "a"],
        ["work.py:upper", "--from", "missing"],
        ["work.py:upper", "a", "-o", "no/such/r.jsonl"],
        ["work.py:upper", "a", "-j", "0"],
    ],
)
def test_bad_usage_starts_nothing(
    arguments: list[str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("a group was made")

    monkeypatch.chdir(here)
    monkeypatch.setattr(andon_package, "TaskGroup", unexpected)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(here))
        assert main(["run", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("andon: error: ") and err.count("\n") == 1


def test_bad_usage_from_outside(here: Path) -> None:
    done = andon("run", "work.py:nothing", "a", cwd=here)
    assert done.returncode == 2
    assert (
        done.stderr
        == "andon: error: work.py has no 'nothing' (module 'work' has no attribute 'nothing')\n"
    )


# Shell commands ----------------------------------------------------------------------------------


def test_a_command_that_fails_stops_the_others_and_their_children(here: Path) -> None:
    # What is left behind by any of them is found after the test.
    command = (
        "if [ {} = bad ]; then until [ -e at-a -a -e at-b ]; do sleep 0.02; done;"
        " echo it is bad >&2; exit 3; fi; sleep 60 & touch at-{}; sleep 61"
    )
    done = andon("run", command, "a", "bad", "b", "-j3", "-o", "r.jsonl", cwd=here)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("andon: ")]
    assert told[0].startswith("andon: item 1 'bad' failed with exit status 3: if [ bad = bad ]")
    assert "    it is bad\n" in done.stderr
    assert told[-1].startswith("andon: 0 done, 1 failed, 2 stopped, 0 never started in ")
    lines = read_results(here / "r.jsonl")
    assert lines[1]["error"]["type"] == "andon.cli.shell.CommandError"
    assert [n["stopped_by"] for n in lines[::2]] == ["interrupt", "interrupt"]


def test_a_command_that_ignores_sigterm_is_killed(here: Path) -> None:
    command = (
        "if [ {} = bad ]; then until [ -e at-a ]; do sleep 0.02; done; exit 1; fi;"
        " trap '' TERM; touch at-a; sleep 60; sleep 60"
    )
    arguments = ["run", command, "a", "bad", "-j2", "--kill-after", "0.3", "-o", "r.jsonl"]
    done = andon(*arguments, cwd=here)
    assert done.returncode == 1
    assert read_results(here / "r.jsonl")[0]["stopped_by"] == "kill"


def test_a_command_that_takes_too_long(here: Path) -> None:
    done = andon("run", "sleep 60; true", "a", "--timeout", "0.3", cwd=here)
    assert done.returncode == 1
    assert "TaskTimeoutError" in done.stderr
    assert "andon/cli" not in done.stderr


# Output ------------------------------------------------------------------------------------------


def test_a_full_disk_is_told(here: Path) -> None:
    items = [str(n) for n in range(100)]
    done = andon("run", "work.py:upper", *items, "-o", "/dev/full", cwd=here)
    assert done.returncode == 1
    assert "andon: error: OSError: [Errno 28] No space left on device: '/dev/full'\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_progress_lines_where_there_is_no_terminal(here: Path) -> None:
    done = andon("run", "work.py:sleep", "0.1", "--progress", cwd=here)
    assert done.stderr.count("\n") == 1, "a short run needs no progress"
