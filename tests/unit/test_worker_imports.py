"""A worker's start-up cost is its own: what it imports is a closed list.

Other modules than these, whoever imports them, cost every start of every worker under `spawn`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import pytest

from tests.support import run_python

ANDON = {
    "_blame", "_board", "_buffers", "_cancelled", "_gate", "_multiprocessing", "_of_main",
    "_pickling", "_plain", "_traceback", "_wire", "_words", "_worker",
}  # fmt: skip

# The standard library that the worker may name; what these import in turn is theirs to decide,
# and differs from one Python to the next.
STANDARD = """
    __future__ collections.abc contextlib enum errno faulthandler fcntl functools gc importlib
    io itertools marshal math mmap os pickle select signal struct sys threading time types typing
    warnings
""".split()

# Never, by whatever way: heavy, or a sign that the parent's half has come along.
NEVER = """
    argparse ast asyncio cloudpickle concurrent.futures concurrent.futures.process ctypes
    dataclasses inspect json logging multiprocessing pathlib psutil queue random rich shutil socket
    subprocess tempfile traceback andon.errors andon.outcome andon.token andon._core andon._engines
    andon._runtime
""".split()


OF_TEMPLATE = {"births", "children", "frozen", "messages", "orphans", "template"}
STANDARD_OF_TEMPLATE = """
    __future__ _collections _signal _socket _struct errno gc math select struct
""".split()


def loaded_after(statement: str, flags: Sequence[str] = ()) -> set[str]:
    """The modules of a fresh interpreter that has run this statement."""
    path = f"import sys; sys.path[:] = {sys.path!r}\n" if flags else ""
    source = f"{path}{statement}\nimport sys; names = sorted(sys.modules)\nimport json\n"
    done = run_python([*flags, "-c", source + "print(json.dumps(names))"])
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_a_worker_imports_a_closed_list() -> None:
    floor = loaded_after("import " + ", ".join(STANDARD))
    worker = loaded_after("import andon._worker.boot")
    ours = {name for name in worker if name.split(".")[0] == "andon"}
    assert {name.split(".")[1] for name in ours - {"andon"}} <= ANDON
    assert worker - ours - floor == set()
    assert "andon._worker.boot" in worker


def test_a_worker_never_imports_what_is_heavy() -> None:
    bare = loaded_after("pass")  # what site-packages load into every interpreter is not our doing
    assert (loaded_after("import andon._worker.boot") - bare) & set(NEVER) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="no template")
def test_the_template_imports_next_to_nothing() -> None:
    """Under `spawn` the first worker starts only when its interpreter is there."""
    flags = ["-S"]
    bare = loaded_after("import os", flags)
    template = loaded_after("import andon._worker.template", flags) - bare
    ours = {"andon", "andon._worker", *(f"andon._worker.{n}" for n in OF_TEMPLATE)}
    assert template - ours <= set(STANDARD_OF_TEMPLATE)


def test_a_worker_does_not_load_the_template() -> None:
    """It runs in a process of its own, and brings `socket` along."""
    assert "andon._worker.template" not in loaded_after("import andon._worker.boot")
