"""The first acts of a worker, from the fork (or exec) that made it to its loop.

In this order, because a parent may die, or want this worker dead, at any moment from the start:
its own process group, the lifeline, its signals (each system's `first_acts`); then everything that
can wait.

The descriptors it is given, by position: requests to read, answers to write, the lifeline to
read, the stack dump to write, then memory and bell of each board, the parent's own first, then the
store of its arguments and the ring for its results; -1 for what a system does not have. On Windows
they come as handles.
"""

from __future__ import annotations

import gc
import os
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from andon import _board, _multiprocessing, _of_main, _wire
from andon._board import row as _row
from andon._buffers import parcel
from andon._buffers.ring import Ring
from andon._gate import gate
from andon._worker import relay
from andon._worker.call import flush_streams
from andon._worker.channel import Channel
from andon._worker.loop import Loop
from andon._worker.state import current

if sys.platform == "win32":
    from andon._worker.windows import first_acts
else:
    from andon._worker.posix import first_acts

EXIT_BOOT: Final = 70  # the exit status of a worker that could not boot (sysexits' EX_SOFTWARE)

# The launcher's module object is kept: a module that goes takes its globals with it.
_main_before: Any = None


def main() -> NoReturn:
    """The entry of a worker that was exec'ed: its serial and descriptors stand in `argv`."""
    gc.freeze()  # as in forked workers
    gc.enable()  # whoever starts us has it off while we are loaded
    serial, *fds = map(int, sys.argv[1:])
    run(serial, fds, "spawn")


def run(serial: int, fds: Sequence[int], start_method: str) -> NoReturn:
    """Be a worker. Called in the new process; takes over the descriptors; never returns.

    `serial` is the launcher's number for this worker; it shows in errors only.
    """
    try:
        channel, settings, results = _boot(fds, start_method)
        loop = Loop(
            channel,
            results=None if results < 0 else Ring(results, serial),
            main_by_reference=_of_main.inherit() if start_method == "fork" else None,
            reuse_interrupted=bool(settings.get("reuse_interrupted", False)),
        )
        loop.run()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent is gone, or does not want us any more
    except BaseException:
        import traceback

        with suppress(BaseException):
            print(f"andon: worker {serial} (pid {os.getpid()}) failed:", file=sys.stderr)
            traceback.print_exc()
        flush_streams()
        os._exit(EXIT_BOOT)


def _boot(fds: Sequence[int], start_method: str) -> tuple[Channel, dict[str, Any], int]:
    gate.reset()
    current.reset()
    requests, answers, _, _, *rest = first_acts(fds, start_method)
    _no_stdin()
    current.pid = os.getpid()
    channel = Channel(requests, answers)
    kind, _, _, meta, _ = channel.read()
    if kind != _wire.BOOT:
        raise RuntimeError(f"a worker boots with a BOOT frame, not one of kind {kind}")
    settings: dict[str, Any] = meta[0]
    boards = 2 * len(settings["boards"])
    _take_place(settings, rest[:boards])
    store, results = rest[boards:] or (-1, -1)
    parcel.arguments_from(store)
    _apply(settings)
    if start_method == "fork":
        _multiprocessing.forked()
    else:
        _fresh_main()
    relay.connect(channel, settings)
    return channel, settings, results


def _no_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def _take_place(settings: dict[str, Any], fds: list[int]) -> None:
    idents: list[str] = settings["boards"]
    boards = _board.adopt(zip(idents, fds[0::2], fds[1::2], strict=True))
    current.sit(boards[0], settings["row"])
    current.level = settings.get("level", 0)
    current.cells[_row.PID] = os.getpid()
    current.cells[_row.PHASE] = _row.BOOTING


def _apply(settings: dict[str, Any]) -> None:
    """Be in the same place as the parent: path, directory, environment, arguments."""
    if "sys_path" in settings:
        sys.path[:] = settings["sys_path"]
    if settings.get("argv"):
        sys.argv[:] = settings["argv"]
    wanted: dict[str, str] | None = settings.get("environ")
    if wanted is not None:
        for name in set(os.environ) - set(wanted):
            del os.environ[name]
        for name, value in wanted.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
    if settings.get("cwd"):
        with suppress(OSError):  # it may be gone; then we are where the launcher was
            os.chdir(settings["cwd"])


def _fresh_main() -> None:
    """An empty `__main__`: the user's is never run here, and the launcher's is none of theirs."""
    global _main_before
    _main_before = sys.modules.get("__main__")
    sys.modules["__main__"] = types.ModuleType("__main__")
