"""One template process as the program sees it: how it is started, watched and ended.

That of `spawn` is started when the first worker is wanted, and that worker right beside it: an
interpreter takes longer to start than anything else here, and two may start at the same time. A
shell does it, since the worker is to be the template's child: it starts the worker, and then
becomes the template.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

assert sys.platform == "linux"

from andon._engines.local import descriptors
from andon._engines.local.interpreter import interpreter, starting, starting_worker
from andon._locks import make_lock
from andon._worker.frozen import is_frozen

_SHELL = "/bin/sh"
_ROOT = 3  # the template's socket, there


class Template:
    """A template process and the socket that it lives by."""

    def __init__(self, method: str, root: socket.socket, *, pid: int = 0, theirs: int = -1) -> None:
        self.method = method
        self.root = root
        self.links = 0  # open ones, of a shared template
        self._pid = pid  # 0: not started
        self._theirs = theirs  # until it is started: its end of the socket
        self._start_lock = make_lock()
        self._reaped = False

    @classmethod
    def fresh(cls, method: str) -> Template:
        """One that is to be a fresh interpreter; raises OSError where there is none."""
        executable = interpreter()[0]
        if not os.path.exists(executable):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), executable)
        root, theirs = pair()
        return cls(method, root, theirs=theirs)

    @property
    def pid(self) -> int:
        """Its process number; it is started now, if it has not been."""
        self.start()
        return self._pid

    def start(self, worker: tuple[int, list[int]] | None = None) -> bool:
        """Start it, if it has not been; raises OSError. `worker`: serial and descriptors of one to
        start beside it. True: that one was started, too, and is to be adopted."""
        with self._start_lock:
            if self._pid or self._theirs < 0:
                return False
            fds = [] if worker is None else [self._theirs, *worker[1]]
            if self.method != "spawn" or not fds or not _can_shell(fds):
                worker = None
            self._pid = _start(self.method, self._theirs, worker)
            theirs, self._theirs = self._theirs, -1
            descriptors.close(theirs)
            return worker is not None

    def alive(self) -> bool:
        """Is it still running, or yet to be started? Reaps it if not."""
        if self._pid and not self._reaped:
            try:
                self._reaped = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # the program reaps every child by itself
                self._reaped = not exists(self._pid)
        return not self._reaped

    def end(self, within: float) -> bool:
        """Hang up; it kills what it still has and leaves. Waits; True when it is gone."""
        descriptors.close(self.root)
        with self._start_lock:
            if not self._pid:
                theirs, self._theirs = self._theirs, -1
                descriptors.close(theirs)
                return True
        deadline = time.monotonic() + within
        if self._wait(deadline):
            return True
        self.kill()
        return self._wait(time.monotonic() + 0.5)

    def kill(self) -> None:
        """It hangs."""
        if self._pid and self.alive():
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)

    def _wait(self, deadline: float) -> bool:
        if not self.alive():
            return True
        try:
            pidfd = os.pidfd_open(self._pid)
        except OSError:
            pidfd = -1
        try:
            while self.alive():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if pidfd >= 0:
                    poll = select.poll()
                    poll.register(pidfd, select.POLLIN)
                    poll.poll(left * 1000 + 1)
                else:
                    time.sleep(min(left, 0.005))
            return True
        finally:
            if pidfd >= 0:
                os.close(pidfd)


def pair() -> tuple[socket.socket, int]:
    """Our end, non-blocking and kept; and theirs, a bare descriptor."""
    with descriptors.guard:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        return descriptors.keep(ours), descriptors.keep(theirs.detach())


def _can_shell(fds: list[int]) -> bool:
    return (
        os.path.exists(_SHELL)
        and _is_somewhere()  # else it complains of that
        # It has the worker ignore SIGQUIT, who then could not tell whether the program does.
        and signal.getsignal(signal.SIGQUIT) is not signal.SIG_IGN
        and _places(fds).stop <= os.sysconf("SC_OPEN_MAX")
    )


def _is_somewhere() -> bool:
    """Is the working directory there still?"""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _places(fds: list[int]) -> range:
    """Where the worker finds its descriptors: above all that is there, so that none of them is
    overwritten before it is put in its place."""
    first = max(_ROOT, *fds) + 1
    return range(first, first + len(fds))


def _start(method: str, theirs: int, worker: tuple[int, list[int]] | None) -> int:
    """A fresh interpreter, in a process group of its own: Ctrl-C is not for it."""
    command = interpreter()
    lean = ["-S"] if method == "spawn" and not is_frozen() else []  # it imports nothing but ours
    argv = starting([*command, *lean], "andon._worker.template")
    argv += [str(_ROOT), method, *command]
    files: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, theirs, _ROOT)]
    if worker is None:
        argv.append("0")
    else:
        serial, fds = worker
        places = _places([theirs, *fds])[: len(fds)]
        # Before the root, whose number one of them may have here.
        files = [(os.POSIX_SPAWN_DUP2, *both) for both in zip(fds, places, strict=True)] + files
        argv = _beside([*starting_worker(), str(serial), *map(str, places)], argv)
    # Everything but these is closed on exec, or else by the template and the worker themselves.
    return os.posix_spawn(
        argv[0],
        argv,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *files],
        setpgroup=0,
        setsigmask=(),
    )


def _beside(worker: list[str], template: list[str]) -> list[str]:
    """The command that starts the worker, and becomes the template, whose last argument is the
    worker's process number. Both go as they are, as the script's parameters."""
    count = len(worker)
    words = " ".join(f'"${{{n}}}"' for n in range(1, count + 1))
    script = f'{words} {_ROOT}<&- & shift {count}; exec "$@" "$!"'
    return [_SHELL, "-c", script, _SHELL, *worker, *template]


def exists(pid: int) -> bool:
    """Is there a process of that number (a zombie too)?"""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def kill_tree(pid: int) -> None:
    """Kill a process that is not our child, its group, and its descendants, where nobody else
    will: as far as /proc shows them. Their numbers could be another's by now only if they died
    between the look and the kill."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", "rb") as f:
                    found += map(int, f.read().split())
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    for each in found[1:]:
        with suppress(OSError):
            os.kill(each, signal.SIGKILL)
