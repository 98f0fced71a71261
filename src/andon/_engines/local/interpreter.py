"""How a fresh interpreter is started that shall find andon, and what it imports first."""

from __future__ import annotations

import os
import sys

import andon._worker
from andon._worker import frozen

WORKER = "andon._worker.boot"


def interpreter() -> list[str]:
    """The command: what `multiprocessing` would start, where the program has told it. A frozen
    application is its own interpreter, and must be ready for that."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    executable = _executable()
    if _is_the_application(executable):
        frozen.check_support()
        return [executable, frozen.MARK]
    return [executable, *_args_from_interpreter_flags()]


def check_interpreter() -> None:
    """Raise what `interpreter` would, before anything is opened."""
    if _is_the_application(_executable()):
        frozen.check_support()


def _executable() -> str:
    spawn = sys.modules.get("multiprocessing.spawn")
    told = spawn.get_executable() if spawn is not None else None
    executable = told or sys.executable
    if not executable:  # where Python is embedded, say
        raise RuntimeError(
            f"workers are started by sys.executable, which is {executable!r}: set it, or tell "
            "multiprocessing.set_executable()"
        )
    return os.fsdecode(executable)


def _is_the_application(executable: str) -> bool:
    return frozen.is_frozen() and executable == sys.executable


def starting(command: list[str], module: str) -> list[str]:
    """The command that has a fresh interpreter run that module's `main()`; arguments follow."""
    if command[-1] == frozen.MARK:
        return [*command, module]
    return [*command, "-c", _code(module)]


def starting_worker() -> list[str]:
    """The same for a worker that is started from here."""
    return starting(interpreter(), WORKER)


def _code(module: str) -> str:
    """What follows `-c`: our own path first, then that module's `main()`."""
    path = [p for p in sys.path if type(p) is str]
    home = os.path.dirname(os.path.dirname(os.path.abspath(andon._worker.__file__ or "")))
    home = os.path.dirname(home)
    if home not in path:  # imported by other means than the path; others must find us too
        path.append(home)
    # Collections while modules are loaded find nothing, and take a twelfth of the time.
    off = "import gc, sys; gc.disable()"
    return f"{off}; sys.path[:] = {path!r}; from {module} import main; main()"
