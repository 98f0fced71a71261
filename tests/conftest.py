"""After every test: nothing is left behind (see `tests/leaks.py`). And the shared fixtures.

`nothing_left_behind` is the first fixture to be set up and the last to be torn down, so what other
fixtures of a test make must be gone as well. What module- and session-wide fixtures hold existed
before the test and is accounted for.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks, processes
from tests.support import START_METHODS, Stage, cores

processes.set_mark()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All temporary files of this run, and of its processes, go where they can be counted."""
    path = tmp_path_factory.mktemp("TMPDIR")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(path))
        patch.setattr(tempfile, "tempdir", str(path))
        yield path


@pytest.fixture(scope="session", autouse=True)
def own_board(own_temporary_directory: Path) -> None:
    """The board of this process is made once and stays: before the first test, not in it."""
    if importlib.util.find_spec("andon._board") is not None:
        from andon._board import own_board

        own_board()


@pytest.fixture(scope="session", autouse=True)
def quick_collections(own_board: None) -> None:
    """Take what pytest and its plug-ins hold out of the collections after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    before = leaks.Snapshot.take()
    with leaks.heard_errors() as heard:
        yield
        left = leaks.wait_for_leftovers(before)
    lines = left.lines() + heard
    if lines:
        left.destroy()
        listing = "\n".join(f"  {line}" for line in lines)
        pytest.fail(f"left behind by {request.node.nodeid}:\n{listing}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def callers_drive() -> Iterator[None]:
    """Callers in the main thread drive, although pytest-timeout has a signal handler that raises:
    where that comes, the test has failed anyway."""
    from andon._runtime import handlers

    get = handlers._get

    def handler(number: int) -> Any:
        found = get(number)
        return None if getattr(found, "__module__", "") == "pytest_timeout" else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "_get", handler)
        yield


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    """Each start method that this platform has, in turn."""
    return str(request.param)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes `Stage`s: named places at which a task announces itself or waits to be released."""
    made: list[Stage] = []

    def make(name: str = "stage") -> Stage:
        made.append(Stage.create(tmp_path / f"{name}-{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def busy_cores() -> Iterator[int]:
    """Every core computes beside the test; gives the number of busy processes."""
    # Each ends by itself, should we be killed before we end it.
    source = (
        "import os\n"
        "parent = os.getppid()\n"
        "os.write(1, b'.')\n"
        "while os.getppid() == parent:\n"
        "    for _ in range(100_000): pass\n"
    )
    busy = [
        subprocess.Popen([sys.executable, "-S", "-c", source], stdout=subprocess.PIPE)
        for _ in range(cores())
    ]
    try:
        for process in busy:
            assert process.stdout is not None
            os.read(process.stdout.fileno(), 1)
        yield len(busy)
    finally:
        for process in busy:
            process.kill()
            process.communicate()
