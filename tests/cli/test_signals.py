"""Ctrl-C and SIGTERM, for real: the same account as ever, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Terminal, read_results, started
from tests.support import Stage, dice, eventually, wait_gone

MOMENTS = int(os.environ.get("ANDON_CLI_MOMENTS", "4"))  # per signal and start method

WORK = """
import os, sys, time
from tests.support import Stage

def block(item):
    if item == "quick":
        return "done"
    Stage(os.environ["HERE"]).reach(item)
    while True:
        time.sleep(60)

def stubborn(item):
    word = item
    while True:
        try:
            if word:
                Stage(os.environ["HERE"]).reach(word)
                word = None
            time.sleep(60)
        except BaseException:
            word = "felt"
"""

BUSY = """
import json, subprocess, threading, time
import andon

def work(item):
    kind = int(item) % 6
    if kind == 0:
        sum(i * i for i in range(50_000))
    elif kind == 1:
        time.sleep(0.02)
    elif kind == 2:
        with threading.Lock():
            time.sleep(0.01)
    elif kind == 3:
        json.dumps(list(range(1000)))
    elif kind == 4:
        andon.sleep(0.01)
    else:
        subprocess.run(["true"])
"""

ITEMS = ["quick", "a", "b", *(f"late{n}" for n in range(100))]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


def check_account(path: Path, err: str, why: str) -> None:
    lines = err.splitlines()
    assert lines[-2:][0].endswith(f"andon: stopped by {why}")
    assert "andon: 1 done, 0 failed, 2 stopped, 100 never started in " in lines[-1]
    assert "Traceback" not in err
    results = read_results(path)
    assert [n["item"] for n in results] == ITEMS
    assert [n["state"] for n in results] == ["succeeded", *["cancelled"] * 102]
    assert [n["started"] for n in results] == [True, True, True, *[False] * 100]


def test_sigterm(here: Path, stage: Callable[..., Stage], start_method: str) -> None:
    reached = stage()
    arguments = ["run", "work.py:block", *ITEMS, "-j2", "-o", "r.jsonl"]
    arguments += ["--start-method", start_method]
    with started(*arguments, cwd=here, HERE=reached.path) as process:
        reached.wait(2)
        process.terminate()
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 143
    check_account(here / "r.jsonl", err, "SIGTERM")


def test_ctrl_c_in_a_terminal(here: Path, stage: Callable[..., Stage], start_method: str) -> None:
    reached = stage()
    arguments = ["run", "work.py:block", *ITEMS, "-j2", "-o", "r.jsonl"]
    arguments += ["--start-method", start_method]
    with Terminal(*arguments, cwd=here, HERE=reached.path) as terminal:
        reached.wait(2)
        terminal.type(b"\x03")
        status, shown = terminal.end()
    assert status == 130
    check_account(here / "r.jsonl", shown, "Ctrl-C")
    assert "/103" in shown, "the bar"


def test_a_second_ctrl_c_kills_at_once(here: Path, stage: Callable[..., Stage]) -> None:
    reached = stage()
    arguments = ["run", "work.py:stubborn", "a", "b", "-j2", "--kill-after", "50", "-o", "r.jsonl"]
    with Terminal(*arguments, cwd=here, HERE=reached.path) as terminal:
        reached.wait(2)
        terminal.type(b"\x03")
        reached.wait(2)  # both felt it, and stay
        terminal.type(b"\x03")
        began = time.monotonic()
        status, shown = terminal.end()
    assert status == 130
    assert time.monotonic() - began < 10
    assert [n["stopped_by"] for n in read_results(here / "r.jsonl")] == ["kill", "kill"]
    assert "Traceback" not in shown


def test_sigterm_while_the_input_is_silent(here: Path, stage: Callable[..., Stage]) -> None:
    reached = stage()
    arguments = ["run", "work.py:block", "--from", "-", "-j1", "-o", "r.jsonl"]
    with started(*arguments, cwd=here, stdin=subprocess.PIPE, HERE=reached.path) as process:
        assert process.stdin is not None
        process.stdin.write("a\nb\n")
        process.stdin.flush()
        reached.wait()
        process.terminate()
        assert process.wait(30) == 143
        assert process.stderr is not None
        err = process.stderr.read()
    assert "0 done, 0 failed, 1 stopped, " in err and "the input was not read to its end" in err
    assert {n["item"] for n in read_results(here / "r.jsonl")} <= {"a", "b"}


def test_a_command_gets_time_to_clean_up(here: Path, stage: Callable[..., Stage]) -> None:
    reached = stage()
    inner = here / "inner.sh"
    inner.write_text(
        f"trap 'sleep 0.2; touch cleaned; exit 0' TERM\necho x > {reached.path}.said\n"
        "while :; do sleep 0.05; done\n"
    )
    with started("run", ": {}; sh inner.sh; true", "a", "-j1", cwd=here) as process:
        reached.wait()
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert (here / "cleaned").exists()
    assert "andon: 0 done, 0 failed, 1 stopped, 0 never started in " in err


def test_who_ignores_sigint_goes_on_doing_so(here: Path, stage: Callable[..., Stage]) -> None:
    reached = stage()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's background job has it
    try:
        context = started("run", "work.py:block", "a", cwd=here, HERE=reached.path)
        process = context.__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        reached.wait()
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(30) == 143
    finally:
        context.__exit__(None, None, None)


def test_the_death_of_the_command_is_the_death_of_all(
    here: Path, stage: Callable[..., Stage]
) -> None:
    # What is left behind is found after the test.
    reached = stage()
    command = f": {{}}; echo $$ > {reached.path}.said; sleep 60 & sleep 61; true"
    with started("run", command, "a", "b", "-j2", cwd=here) as process:
        pids = [int(pid) for pid in reached.wait(2)]
        process.kill()
        process.wait(10)
        wait_gone(pids, within=5)


@pytest.mark.stress
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_any_moment(here: Path, start_method: str, number: signal.Signals) -> None:
    # What is left behind by any of them is found after the test.
    (here / "busy.py").write_text(BUSY)
    random = dice(start_method, number)
    items = [str(n) for n in range(2000)]
    arguments = ["run", "busy.py:work", *items, "-j3", "--start-method", start_method]
    for turn in range(MOMENTS):
        output = f"r{turn}.jsonl"
        with started(*arguments, "-o", output, cwd=here) as process:
            eventually((here / output).exists)  # it has come as far as that: the signal is its own
            time.sleep(random.random())
            for _ in range(random.choice([1, 1, 2])):
                process.send_signal(number)
            err = process.communicate(timeout=30)[1]
        assert "Traceback" not in err
        if "never started in " in err:
            assert process.returncode == 128 + number
            assert len(read_results(here / output)) == len(items)
        else:  # it was still on its way to its handlers
            assert process.returncode in (-number, 128 + number)
