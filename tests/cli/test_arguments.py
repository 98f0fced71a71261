"""What is said on the command line: understood, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from andon.cli import main
from andon.cli.arguments import RunOptions, UsageError, parse


def options(*argv: str) -> RunOptions:
    command = parse(["run", *argv])
    assert command.options is not None
    return command.options


def test_the_defaults() -> None:
    assert options("work:f", "a", "b") == RunOptions(
        target="work:f",
        items=("a", "b"),
        source=None,
        null=False,
        workers=None,
        timeout=None,
        deadline=None,
        grace=5.0,
        kill_after=2.0,
        keep_going=False,
        start_method=None,
        progress=True,
        output=None,
    )


def test_every_option() -> None:
    argv = "-j 3 --timeout 1.5 --deadline 60 --grace 0 --kill-after 0.5 -k -0 --from list"
    argv += " --start-method spawn --no-progress --output out.jsonl work:f"
    assert options(*argv.split()) == RunOptions(
        target="work:f",
        items=None,
        source="list",
        null=True,
        workers=3,
        timeout=1.5,
        deadline=60.0,
        grace=0.0,
        kill_after=0.5,
        keep_going=True,
        start_method="spawn",
        progress=False,
        output="out.jsonl",
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["-j2", "work:f", "a", "b"],
        ["work:f", "-j2", "a", "b"],
        ["work:f", "a", "-j2", "b"],
        ["work:f", "a", "b", "-j2"],
        ["-j2", "--", "work:f", "a", "b"],
        ["-j2", "work:f", "--", "a", "b"],
        ["work:f", "a", "--workers=2", "--", "b"],
    ],
)
def test_options_may_stand_anywhere(argv: list[str]) -> None:
    found = options(*argv)
    assert (found.target, found.items, found.workers) == ("work:f", ("a", "b"), 2)


def test_what_follows_two_dashes_is_an_item() -> None:
    found = options("work:f", "--", "-j", "--", "--from")
    assert found.items == ("-j", "--", "--from")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "nothing to do"),
        (["rnu"], "no such command: 'rnu'"),
        (["--verbose"], "no such option: '--verbose'"),
        (["run"], "no TARGET"),
        (["run", "", "a"], "TARGET is empty"),
        (["run", "work:f"], "no items"),
        (["run", "work:f", "a", "--from", "x"], "not both"),
        (["run", "work:f", "a", "-0"], "--null"),
        (["run", "work:f", "a", "-j", "0"], "a whole number from 1, not '0'"),
        (["run", "work:f", "a", "-j", "many"], "a whole number from 1, not 'many'"),
        (["run", "work:f", "a", "-j", "-1"], "a whole number from 1, not '-1'"),
        (["run", "work:f", "a", "--timeout", "0"], "a number of seconds above 0, not '0'"),
        (["run", "work:f", "a", "--timeout", "-1"], "a number of seconds above 0, not '-1'"),
        (["run", "work:f", "a", "--timeout=-.5"], "a number of seconds above 0, not '-.5'"),
        (["run", "work:f", "a", "--timeout", "soon"], "a number of seconds above 0, not 'soon'"),
        (["run", "work:f", "a", "--timeout", "-k"], "--timeout: expected one argument"),
        (["run", "work:f", "a", "--deadline", "nan"], "a number of seconds above 0, not 'nan'"),
        (["run", "work:f", "a", "--grace", "-1"], "a number of seconds at least 0, not '-1'"),
        (["run", "work:f", "a", "--kill-after", "inf"], "seconds at least 0, not 'inf'"),
        (["run", "work:f", "a", "--start-method", "thread"], "'thread'"),
        (["run", "work:f", "a", "--nonsense"], "--nonsense; items that begin with a dash go"),
        (["run", "work:f", "a", "--work", "2"], "--work"),
        (["demo", "now"], "takes no arguments"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert told in str(caught.value)
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("andon: error: ") and err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["run", "--help"], ["run", "x", "-h"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: andon run") and err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "andon" and version[0].isdigit()


def test_ctrl_c_before_a_run_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Callable[..., Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("andon.cli.run.load", interrupted)
    assert main(["run", "work:f", "a"]) == 130
    assert capsys.readouterr().err == "andon: interrupted\n"
