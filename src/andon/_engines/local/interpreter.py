"""How a fresh interpreter is started that shall find andon, and what it imports first."""

from __future__ import annotations

import os
import sys

import andon._worker


def interpreter() -> list[str]:
    """The command: what `multiprocessing` would start, where the program has told it."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    spawn = sys.modules.get("multiprocessing.spawn")
    told = spawn.get_executable() if spawn is not None else None
    return [os.fsdecode(told or sys.executable), *_args_from_interpreter_flags()]


WORKER = "andon._worker.boot"


def worker_code() -> str:
    """What follows `-c` for a worker that is started from here."""
    return start_code(WORKER)


def start_code(module: str) -> str:
    """What follows `-c`: our own path first, then that module's `main()`."""
    path = [p for p in sys.path if type(p) is str]
    home = os.path.dirname(os.path.dirname(os.path.abspath(andon._worker.__file__ or "")))
    home = os.path.dirname(home)
    if home not in path:  # imported by other means than the path; others must find us too
        path.append(home)
    return f"import sys; sys.path[:] = {path!r}; from {module} import main; main()"
