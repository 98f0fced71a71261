"""The command's standard streams: closed, full, or left by who read them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import environment, read_results
from tests.support import run

FULL = "standard output: No space left on device"


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest) -> str:
    """The value of PYTHONUNBUFFERED: a failure shows at the write, or when Python leaves."""
    return str(request.param)


def shell(script: str, cwd: Path, buffering: str = "1") -> subprocess.CompletedProcess[str]:
    """Run a script in which `andon` is the command."""
    andon = f'andon() {{ {shlex.quote(sys.executable)} -m andon "$@"; }}\n'
    env = environment(PYTHONUNBUFFERED=buffering)
    return run(["sh", "-c", andon + script], cwd=cwd, env=env)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_failure(closed: str, start_method: str, tmp_path: Path) -> None:
    # Nothing that we open gets its number: the results hold nothing but results.
    command = "'echo said {}; echo told {} >&2; cat; #' a b"
    options = f"-o r.jsonl --start-method {start_method}"
    done = shell(f"andon run {command} {options} {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [n["state"] for n in read_results(tmp_path / "r.jsonl")] == ["succeeded"] * 2
    assert "said a\n" in done.stdout or " >&-" in f" {closed}"
    assert "andon: 2 done, " in done.stderr or "2>&-" in closed


def test_bad_usage_where_standard_error_is_closed(tmp_path: Path) -> None:
    done = shell("andon run true a --nonsense 2>&-", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("words", ["--version", "run --help", "demo"])
def test_what_is_shown_where_standard_output_is_closed(words: str, tmp_path: Path) -> None:
    done = shell(f"andon {words} >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_standard_input_to_read_from(tmp_path: Path) -> None:
    done = shell("andon run true --from - <&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "andon: error: --from -: there is no standard input\n"


@pytest.mark.parametrize("words", ["--version", "run --help", "demo"])
def test_a_full_standard_output_is_told_in_one_line(
    words: str, buffering: str, tmp_path: Path
) -> None:
    done = shell(f"andon {words} > /dev/full", tmp_path, buffering)
    assert (done.returncode, done.stderr) == (1, f"andon: error: {FULL}\n")


@pytest.mark.parametrize(
    ("words", "status"),
    [("run true a", 0), ("run false a", 1), ("run", 2), ("--help > /dev/full", 1)],
)
def test_the_exit_status_tells_where_standard_error_is_full(
    words: str, status: int, buffering: str, tmp_path: Path
) -> None:
    done = shell(f"andon {words} 2> /dev/full", tmp_path, buffering)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("lines", [2, 18])  # while the recipe runs; while andon does
def test_nobody_reads_the_demonstration_to_its_end(
    lines: int, buffering: str, tmp_path: Path
) -> None:
    script = f"(andon demo; echo $? > status) | head -{lines}"
    done = shell(script, tmp_path, buffering)
    assert (done.stdout.count("\n"), done.stderr) == (lines, "")
    assert (tmp_path / "status").read_text() == "1\n"


def test_the_list_on_standard_input_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("a\nb\n")
    done = shell("andon run true --from - -o list < list", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "andon: error: --output list: that is the file the items come from\n"
    assert path.read_text() == "a\nb\n"


def test_a_device_can_be_input_and_output(tmp_path: Path) -> None:
    # As a terminal is, where one types the items and reads the results.
    done = shell("andon run true --from - -o /dev/null < /dev/null", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("redirection", "output", "before"),
    [
        (">> log", "/dev/stdout", ["before"]),
        (">> log", "-", ["before"]),
        (">> log", "log", ["before"]),
        ("> log", "/dev/stdout", []),
        ("2>> log >&2", "/dev/stderr", ["before"]),
    ],
)
def test_results_among_what_tasks_print(
    redirection: str, output: str, before: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    items = [f"item{n}" for n in range(20)]
    command = f"andon run -j2 -o {output} 'echo said' {' '.join(items)}"
    done = shell(f"{command} {redirection}", tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = path.read_text().splitlines()
    results = [json.loads(line) for line in lines if line.startswith("{")]
    assert sorted(n["index"] for n in results) == list(range(20))
    assert {n["state"] for n in results} == {"succeeded"}
    others = [line for line in lines if not line.startswith(("{", "andon: "))]
    assert others[: len(before)] == before
    assert sorted(others[len(before) :]) == sorted(f"said {item}" for item in items)
