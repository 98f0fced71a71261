"""Applications that are no scripts: frozen ones, whose executable is no interpreter, zipped ones
that bring andon along, and notebooks. They work, and never start themselves again (S42)."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

import andon
from tests.support import run, run_python
from tests.survival.test_programs import BODY, TOP, check, env

__all__ = ["env"]  # a fixture

# What a freezer makes: started as it is, `sys.frozen`, and an executable that takes no `-c`.
FROZEN = f"""\
#!{sys.executable}
import os, sys
sys.frozen = True
sys.executable = os.path.abspath(__file__)
sys.orig_argv = sys.argv
"""
SUPPORT = """\
import andon
andon.freeze_support()
"""
WITHOUT = """\
import andon, os, sys
print("top", len(sys.argv), flush=True)
method = os.environ["ANDON_TEST_METHOD"]
for opened in (
    lambda: andon.Pool(1, start_method=method),
    lambda: andon.map(abs, [-1], start_method=method),
):
    try:
        print(opened())
    except RuntimeError as error:
        print(error)
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(FROZEN + text)
    path.chmod(0o755)
    return path


def test_a_frozen_application(env: dict[str, str], tmp_path: Path) -> None:
    result = run([executable(tmp_path / "app", SUPPORT + TOP + BODY)], env=env)
    check(result.stdout, result.stderr, env)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_frozen_application_that_does_not_know(env: dict[str, str], tmp_path: Path) -> None:
    result = run([executable(tmp_path / "app", WITHOUT)], env=env)
    assert (result.returncode, result.stderr) == (0, "")
    top, *lines = result.stdout.splitlines()
    assert top == "top 1" and len(lines) == 2  # and nothing was started
    if env["ANDON_TEST_METHOD"] == "fork":  # needs no interpreter
        assert lines[1] == "[1]"
    else:
        assert all("call andon.freeze_support() first thing" in line for line in lines), lines


def test_its_word_starts_nothing_else(tmp_path: Path) -> None:
    path = executable(tmp_path / "app", SUPPORT)
    result = run([path, "--andon-start", "os"])
    assert result.returncode == 1 and "cannot start 'os'" in result.stderr
    # Where nothing is frozen, the word is the program's own.
    done = run_python(["-c", SUPPORT + "print('here')", "--andon-start", "andon._worker.boot"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with all of andon in it, and a program."""
    path = tmp_path_factory.mktemp("zipped") / "app.pyz"
    with zipfile.PyZipFile(path, "w") as file:
        file.writepy(str(Path(andon.__file__).parent))  # compiled
        file.writestr("__main__.py", TOP + BODY + "print(andon.__file__)\n")
    return path


def test_a_zipped_application(env: dict[str, str], zipped: Path) -> None:
    """Without andon in any other place: its workers find it in the archive."""
    result = run_python([zipped], env=env)
    check(result.stdout, result.stderr, env)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith(str(zipped))


# Notebooks ---------------------------------------------------------------------------------------


def test_a_notebook(env: dict[str, str], tmp_path: Path) -> None:
    """What its cells define, and define anew; a bar; the interrupt button, a SIGINT to a kernel
    that is full of threads; and its end."""
    pytest.importorskip("ipykernel", reason="no kernel is installed in this interpreter")
    # In a process of its own: the client leaves an event loop behind.
    env = {**env, "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)}
    result = run_python(["-m", "tests.survival.notebook", tmp_path], env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    check(result.stdout, "", env)
    assert result.stdout.splitlines()[-4:] == [
        "[1, 11, 21] [11]",
        f"{'█' * 24} 5/5 finished",
        "error KeyboardInterrupt",
        "[1, 11, 21]",
    ]
