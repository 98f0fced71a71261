"""Several runners: each test is run once, by one of them, and the sum tells the truth."""

from __future__ import annotations

import sys
from pathlib import Path

from tests import side_by_side
from tests.support import run

ROOT = Path(__file__).parents[2]

TESTS = """
import os, pathlib, pytest

@pytest.fixture
def untidy():
    yield
    assert not UNTIDY

UNTIDY = False

@pytest.mark.parametrize("n", range(30))
def test_many(n):
    with open("ran", "a") as file:
        file.write(f"{n} {os.getpid()}\\n")

def test_skipped():
    pytest.skip("why not")

def test_tidy(untidy):
    assert BROKEN is False, "told in full"

BROKEN = False
"""


def run_tests(directory: Path, text: str) -> tuple[int, str]:
    (directory / "test_it.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    result = run(
        [sys.executable, "-m", "tests.side_by_side", "test_it.py"],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), side_by_side.RUNNERS: "2"},
    )
    assert result.stderr == ""
    return result.returncode, result.stdout


def test_each_test_runs_once(tmp_path: Path) -> None:
    status, told = run_tests(tmp_path, TESTS)
    ran = [line.split()[0] for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(map(int, ran)) == list(range(30))
    assert " 31 passed, 1 skipped in " in told.splitlines()[-1], told
    assert status == 0, told


def test_what_fails_is_told_and_makes_the_sum_fail(tmp_path: Path) -> None:
    text = TESTS.replace("UNTIDY = False", "UNTIDY = True").replace(
        "BROKEN = False", "BROKEN = True"
    )
    status, told = run_tests(tmp_path, text)
    assert " 1 failed, 30 passed, 1 skipped, 1 error in " in told.splitlines()[-1], told
    assert told.count("E       AssertionError: told in full\n") == 1, told
    assert status == 1, told


def test_a_runner_that_dies_takes_its_tests_with_it(tmp_path: Path) -> None:
    status, told = run_tests(tmp_path, TESTS.replace('pytest.skip("why not")', "os._exit(0)"))
    assert status != 0 and "not run by anybody: 'test_it.py::test_skipped'" in told, told


def test_an_error_of_the_collection_is_told(tmp_path: Path) -> None:
    status, told = run_tests(tmp_path, "import nothing_of_this_name\n")
    assert status != 0 and "nothing_of_this_name" in told and "error" in told.splitlines()[-1]
