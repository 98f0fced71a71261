"""The first acts of a worker, from the fork (or exec) that made it to its loop.

In this order, because a parent may die, or want this worker dead, at any moment from the start:
its own process group, the lifeline, its signals; then everything that can wait.

The descriptors it is given, by position: requests to read, answers to write, the lifeline to
read, the stack dump to write, then memory and bell of each board, the parent's own first.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import select
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from signal import SIGKILL
from typing import Any, Final, NoReturn

from andon import _board, _pickling, _wire
from andon._board import row as _row
from andon._gate import gate
from andon._worker import signals
from andon._worker.call import flush_streams
from andon._worker.channel import Channel
from andon._worker.loop import Loop
from andon._worker.state import current

_PR_SET_CHILD_SUBREAPER = 36
_HIGH = (300, 100, 40)  # tasks close low descriptors; as high as the limit lets us
EXIT_BOOT: Final = 70  # the exit status of a worker that could not boot (sysexits' EX_SOFTWARE)

# The launcher's module object is kept: a module that goes takes its globals with it.
_main_before: Any = None


def before_exec() -> None:
    """What a launcher that forks and execs does between the two: these survive an exec.

    The worker then need not load ctypes, which would cost it 3 ms.
    """
    _own_group()
    become_subreaper()


def main() -> NoReturn:
    """The entry of a worker that was exec'ed: its serial and descriptors stand in `argv`."""
    serial, *fds = map(int, sys.argv[1:])
    run(serial, fds, "spawn")


def run(serial: int, fds: Sequence[int], start_method: str) -> NoReturn:
    """Be a worker. Called in the new process; takes over the descriptors; never returns.

    `serial` is the launcher's number for this worker; it shows in errors only.
    """
    try:
        channel, settings = _boot(fds, start_method)
        loop = Loop(
            channel,
            main_by_reference=_pickling.main_globals() if start_method == "fork" else None,
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


def _boot(fds: Sequence[int], start_method: str) -> tuple[Channel, dict[str, Any]]:
    gate.reset()
    current.reset()
    _own_group()
    requests, answers, lifeline, stack, *boards = (_move_high(fd) for fd in fds)
    _hold_lifeline(lifeline)
    signals.install()
    if start_method != "spawn":
        become_subreaper()
    _dump_stacks_to(stack)
    _no_stdin()
    for fd in (requests, answers):
        os.set_blocking(fd, True)
    current.pid = os.getpid()
    channel = Channel(requests, answers)
    kind, _, _, meta, _ = channel.read()
    if kind != _wire.BOOT:
        raise RuntimeError(f"a worker boots with a BOOT frame, not one of kind {kind}")
    settings: dict[str, Any] = meta[0]
    _take_place(settings, boards)
    _apply(settings)
    if start_method != "fork":
        _fresh_main()
    return channel, settings


def _own_group() -> None:
    with suppress(OSError):  # a session's leader has its own already
        os.setpgid(0, 0)


def _move_high(fd: int) -> int:
    for base in _HIGH:
        try:
            moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, base)
        except OSError:
            continue
        os.close(fd)
        return moved
    os.set_inheritable(fd, False)
    return fd


def _hold_lifeline(fd: int) -> None:
    """Die when the parent does, busy in C code or not (S20).

    Nobody ever writes into this pipe. When its only writer dies, the kernel signals the group.
    """
    try:
        if sys.platform != "linux":
            raise OSError("no F_SETSIG")
        own_group = os.getpgrp() == os.getpid()
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid() if own_group else os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETSIG, int(SIGKILL))
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:
        _watch_lifeline(fd)
        return
    # The writer may have gone before the pipe was armed.
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if poller.poll(0):
        os._exit(0)


def _watch_lifeline(fd: int) -> None:
    """Where the kernel cannot: a thread. It needs the GIL, which a task in C code may hold."""
    import _thread

    def watch() -> None:
        with suppress(OSError):
            while os.read(fd, 1):
                pass
        with suppress(OSError):
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpid(), SIGKILL)
        os._exit(0)

    _thread.start_new_thread(watch, ())


def become_subreaper() -> None:
    """Adopt the orphans that tasks leave, so that they can be found (S20)."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _dump_stacks_to(fd: int) -> None:
    """On STACK_SIGNAL, all threads' stacks go there from C, without the GIL (S19)."""
    os.set_blocking(fd, False)
    if signals.STACK_SIGNAL:
        faulthandler.register(signals.STACK_SIGNAL, file=fd, all_threads=True, chain=False)


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
    if "argv" in settings:
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
