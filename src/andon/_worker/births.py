"""How the template makes a worker: by a fork, which under `spawn` becomes a fresh interpreter.
Only on Linux.
"""

from __future__ import annotations

import gc
import os
import sys

assert sys.platform == "linux"

from andon._worker.children import become_subreaper
from andon._worker.frozen import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any, NoReturn
else:  # the template loads this, and as little as it can (see template.py)
    import _signal as signal


class Births:
    """Of one template. `command`: a spawned worker's interpreter and flags; `dispositions`: what
    workers are to do with the signals that the template ignores; `let_go` is run in a forked
    worker: it closes all that is the template's."""

    def __init__(
        self,
        method: str,
        command: list[str],
        dispositions: dict[int, Any],
        let_go: Callable[[], None],
    ) -> None:
        self._method = method
        self._command = command
        self._dispositions = dispositions
        self._mask: set[int] = set()  # of signals; theirs, too
        self._let_go = let_go

    def make(self, serial: int, fds: list[int]) -> int:
        """Start a worker with these descriptors, in a process group of its own; its process
        number. Raises OSError where there can be none."""
        pid = self._spawn(serial, fds) if self._method == "spawn" else self._fork(serial, fds)
        try:
            os.setpgid(pid, pid)  # the worker does it too; whoever comes first
        except OSError:
            pass
        return pid

    def _divide(self) -> int:
        """Fork. A signal that comes before the child has its own handlers waits for them (see
        `_restore_signals`): with ours it would be ignored."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._dispositions)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return pid

    def _fork(self, serial: int, fds: list[int]) -> int:
        pid = self._divide()
        if pid:
            return pid
        try:
            self._become(serial, fds)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)

    def _become(self, serial: int, fds: list[int]) -> NoReturn:
        self._let_go()
        self._restore_signals()
        gc.enable()
        from andon._worker import boot

        boot.run(serial, fds, self._method)

    def _spawn(self, serial: int, fds: list[int]) -> int:
        code = (
            f"import gc, sys; gc.disable(); sys.path[:] = {sys.path!r}; "
            "from andon._worker.boot import main; main()"
        )
        start = ["andon._worker.boot"] if self._command[-1] == MARK else ["-c", code]
        argv = [*self._command, *start, str(serial), *map(str, fds)]
        pid = self._divide()
        if pid:
            return pid
        try:
            # Group and subreaper survive the exec; the worker then need not load ctypes (3 ms).
            os.setpgid(0, 0)
            become_subreaper()
            self._restore_signals()
            for fd in fds:
                os.set_inheritable(fd, True)
            os.execv(argv[0], argv)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)

    def _restore_signals(self) -> None:
        for number, handler in self._dispositions.items():
            if number != signal.SIGINT:  # stays ignored: the parent alone decides (S32)
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
