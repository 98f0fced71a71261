"""What people are shown first: the demonstration and the examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import ROOT, andon, environment
from tests.support import run_python


def test_the_demonstration() -> None:
    done = andon("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    recipe, line = done.stdout.split("2. andon")
    for part in (recipe, line):
        tasks = {
            n.split(": ", 1)[0].strip(): n for n in part.splitlines() if n.startswith("  task")
        }
        assert len(tasks) == 10
        assert "failed: bad batch" in tasks["task 5"]
        assert "done" in tasks["task 0"]
    assert "never started" in line
    assert line.count(" ms ") == 2


# Each with the plain interpreter, as a reader would try it: no guard, any start method.
def test_the_recipe_with_its_imports_changed(start_method: str, tmp_path: Path) -> None:
    done = run_example("shared_event.py", start_method, tmp_path)
    lines = done.splitlines()
    assert len(lines) == 10
    assert lines[5] == "task 5: failed: the last step went wrong"
    assert lines[0] == "task 0: done"
    assert lines[9].startswith("task 9: stopped before step ")


def test_the_job_as_andon_has_it(start_method: str, tmp_path: Path) -> None:
    lines = run_example("stop_the_line.py", start_method, tmp_path).splitlines()
    assert lines[0] == "stopped: the last step went wrong"
    assert len(lines) == 11
    assert lines[1] == "task 0: succeeded"
    assert lines[6] == "task 5: failed"
    assert lines[10] == "task 9: cancelled (never-started)"


def run_example(name: str, start_method: str, tmp_path: Path) -> str:
    source = (ROOT / "examples" / name).read_text()
    script = tmp_path / name
    script.write_text(
        f"import multiprocessing\nmultiprocessing.set_start_method({start_method!r})\n{source}"
    )
    done = run_python([script], env=environment(), cwd=tmp_path)
    if "Traceback" in done.stderr:
        pytest.fail(done.stderr)
    assert done.returncode == 1
    return done.stdout
