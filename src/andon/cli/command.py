"""A shell command as a task: what runs in a worker.

The command is the leader of a process group of its own, so that it can be told to end (SIGTERM)
while the worker stays to see that it did, and to read what it still says. It never outlives its
task: 1. where it ends by itself, what it left in its group is killed; 2. where the task is
interrupted, the group gets SIGTERM and is waited for; 3. where the worker is killed, its tree goes
with it (S20), this group included.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from andon._gate import gate
from andon.cli.shell import CommandError

assert sys.platform != "win32"  # see target.py

# Shells that read a word in single quotes as POSIX says, which is how an item is given to them: to
# csh or fish, some of its characters would mean something.
SHELLS = frozenset({"ash", "bash", "dash", "ksh", "mksh", "sh", "yash", "zsh"})
TAIL = 4096
LINES = 10


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """Runs `template` for an item: `{}` stands for the item, quoted; without `{}` it comes last."""

    template: str
    shell: str

    def line(self, item: str) -> str:
        """The command line for this item."""
        quoted = shlex.quote(item)
        if "{}" in self.template:
            return self.template.replace("{}", quoted)
        return f"{self.template} {quoted}"

    def __call__(self, item: str) -> None:
        line = self.line(item)
        process = None
        try:
            # An interrupt inside `Popen` would leave a command that nobody knows of.
            with gate:
                process = _start([self.shell, "-c", line])
            tail = _follow(process)
        except BaseException:
            # Our own `Cancelled`, most of all. The engine bounds this wait (S15, step 3).
            if process is not None:
                _ask_to_end(process)
            raise
        finally:
            if process is not None:
                with gate:
                    status = _end(process)
        if status != 0:
            raise CommandError(line, status, _last_lines(tail))


def user_shell() -> str:
    """The user's shell; /bin/sh where that is none that takes an item as we quote it."""
    shell = os.environ.get("SHELL", "")
    usable = os.path.isabs(shell) and os.access(shell, os.X_OK)
    return shell if usable and os.path.basename(shell) in SHELLS else "/bin/sh"


def _start(argv: list[str]) -> subprocess.Popen[bytes]:
    # A worker ignores SIGINT, and a program inherits what is ignored: a command that uses SIGINT
    # itself would be deaf to it. The terminal's own never comes here: our group is not its.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    return process


def _follow(process: subprocess.Popen[bytes]) -> bytes:
    """Pass the command's standard error on until the command ends; return the last of it.

    Not until the end of the *pipe*: a background child may hold that open for ever.
    """
    tail = b""
    watch = _Watch(process)
    try:
        while not watch.wait():
            tail = _pass_on(process, tail)
        return _pass_on(process, tail)
    finally:
        watch.close()


def _pass_on(process: subprocess.Popen[bytes], tail: bytes) -> bytes:
    assert process.stderr is not None
    # Bounded by what a pipe can hold: one that never stops writing must not keep us here.
    for _ in range(16):
        piece = process.stderr.read(1 << 16)  # unbuffered and non-blocking: one read
        if not piece:  # None: nothing there now; empty: closed
            break
        with suppress(OSError):  # our own standard error may be gone
            os.write(2, piece)
        tail = (tail + piece)[-TAIL:]
    return tail


class _Watch:
    """Waits for output or for the child's end, whichever is first, without reaping the child."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self._process = process
        self._poll = select.poll()
        self._poll.register(process.stderr, select.POLLIN)
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel
                self._pidfd = os.pidfd_open(process.pid)
                self._poll.register(self._pidfd, select.POLLIN)

    def wait(self) -> bool:
        """False: there is output. True: the child has ended."""
        for fd, event in self._poll.poll(None if self._pidfd >= 0 else 50):
            if fd == self._pidfd:
                return True
            if not event & select.POLLIN:
                # It closed its standard error and goes on. A pipe at its end is always ready, and
                # would keep us busy.
                self._poll.unregister(fd)
        return self._pidfd < 0 and _has_ended(self._process)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    waitid: Any = getattr(os, "waitid", None)
    if waitid is None:  # macOS before Python 3.13
        return process.poll() is not None
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return waitid(os.P_PID, process.pid, options) is not None


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the command's group; wait until nothing of it is left.

    Its shell may be gone at once while a program that it called is still putting things in order.
    """
    _signal(process, signal.SIGTERM)
    _signal(process, signal.SIGCONT)  # a stopped process takes SIGTERM only then
    pause = 0.001
    while True:
        _pass_on(process, b"")
        if process.poll() is not None:
            _reap(process.pid, os.WNOHANG)
            try:
                os.killpg(process.pid, 0)
            except OSError:
                return
        time.sleep(pause)
        pause = min(0.02, pause * 2)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Kill and reap what the command left in its group; return the command's own status."""
    assert process.stderr is not None
    # The leader is not reaped yet: the number of its group cannot belong to anybody else.
    _signal(process, signal.SIGKILL)
    status = process.wait()
    _reap(process.pid, 0)
    process.stderr.close()
    return status


def _reap(group: int, options: int) -> None:
    # Its orphans are ours: a worker is a subreaper. All of them have ended or are about to.
    with suppress(ChildProcessError):
        while os.waitpid(-group, options) != (0, 0):
            pass


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _last_lines(tail: bytes) -> str:
    lines = tail.decode(errors="replace").rstrip().splitlines()
    return "\n".join(lines[-LINES:])
