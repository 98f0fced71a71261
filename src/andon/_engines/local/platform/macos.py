"""macOS: `poll`, woken by a pipe, and workers that are children of this very process.

Untested there; but for the few lines about kqueue, the tests run all of it on Linux.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Protocol

assert sys.platform != "win32"

import psutil

from andon._engines.local import descriptors
from andon._engines.local.channel import Reader, Writer, take
from andon._engines.local.interpreter import starting_worker
from andon._engines.local.timers import Handler
from andon._worker.signals import INTERRUPT_SIGNAL, STACK_SIGNAL


class Poller:
    """Handlers are added and removed under the engine's lock; `wait` runs without. What changes
    while it waits counts from its next call on: whoever changes it wakes it."""

    reader, writer = Reader, Writer  # the ends of pipes that it can wait for

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}
        self._once: set[int] = set()
        self._handlers: dict[int, Handler] = {}
        self._soon: list[Handler] = []
        self._woken_fd, self._wake_fd = descriptors.pipe()
        for fd in (self._woken_fd, self._wake_fd):
            os.set_blocking(fd, False)
        self._open = True
        # Reentrant: the handler of Ctrl-C wakes, and may come in the middle of a wake.
        self._wake_lock = threading.RLock()
        self.add(self._woken_fd, self._woken)

    def add(self, fd: int, handler: Handler, *, edge: bool = False) -> None:
        """Call `handler` when there is something to read (`edge`: the first time only, since
        `poll` would say so for ever)."""
        self._handlers[fd] = handler
        self._masks[fd] = select.POLLIN
        if edge:
            self._once.add(fd)
        self.wake()

    def writable(self, fd: int, handler: Handler | None) -> None:
        """Call `handler` while there is room to write; None: not any more."""
        if handler is None:
            self.remove(fd)
        elif fd not in self._handlers:
            self._handlers[fd] = handler
            self._masks[fd] = select.POLLOUT
            self.wake()

    def remove(self, fd: int) -> None:
        """Before the descriptor is closed."""
        self._handlers.pop(fd, None)
        self._masks.pop(fd, None)
        self._once.discard(fd)

    def soon(self, handler: Handler) -> None:
        """Call it after the next `wait`, which comes back at once."""
        self._soon.append(handler)
        self.wake()

    def wait(self, timeout: float | None) -> list[Handler]:
        """What is to be called now. At most `timeout` seconds, rounded up to milliseconds."""
        ready = self._poll(None if timeout is None else timeout * 1000)
        soon, self._soon = self._soon, []
        found = [(fd, h) for fd, _ in ready if (h := self._handlers.get(fd)) is not None]
        for fd, _ in found:
            if fd in self._once:
                self._once.discard(fd)
                self._masks.pop(fd, None)
        return soon + [handler for _, handler in found]

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        poll = select.poll()
        for fd, mask in list(self._masks.items()):
            poll.register(fd, mask)
        return poll.poll(timeout)

    def take(self, fd: int) -> bytes:
        """Some of what is there to read; empty: nothing now."""
        return take(fd)

    def wake(self) -> None:
        """End a `wait`, from any thread, also when closed; never blocks."""
        with self._wake_lock:
            if self._open:
                with suppress(BlockingIOError):  # full: it will not wait
                    os.write(self._wake_fd, b"w")

    def _woken(self) -> None:
        while take(self._woken_fd):
            pass

    def close(self) -> None:
        """Give up the descriptors."""
        with self._wake_lock:
            self._open = False
            descriptors.close(self._woken_fd, self._wake_fd)
        self._handlers.clear()
        self._masks.clear()


class End(Protocol):
    """Readable once a process has ended."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


def end_of(pid: int) -> End | None:
    """Watches for the end of a child that is not reaped; None: it has ended already."""
    if sys.platform != "darwin":
        raise OSError("no kqueue")
    else:
        queue = select.kqueue()  # is not inherited by forks, and closed on exec
        event = select.kevent(
            pid,
            select.KQ_FILTER_PROC,
            select.KQ_EV_ADD | select.KQ_EV_ONESHOT,
            select.KQ_NOTE_EXIT,
        )
        try:
            queue.control([event], 0)
        except OSError as exc:
            queue.close()
            if isinstance(exc, ProcessLookupError):
                return None
            raise
        return queue


class Hold:
    """A worker's process: a child of ours, in a process group of its own (see `spawner.Child`)."""

    def __init__(self, serial: int, fds: list[int]) -> None:
        command = [*starting_worker(), str(serial), *map(str, fds)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[fd for fd in fds if fd >= 0],
            process_group=0,
        )
        self.pid = self._process.pid
        self.exitcode: int | None = None
        self._reaped = False
        self._tree: dict[int, psutil.Process] = {}  # descendants, when we last looked
        self._seen: Handler | None = None
        self._poller: Poller | None = None
        try:
            self._end = end_of(self.pid)
        except OSError:
            self.kill()
            self._process.wait()
            raise

    # What the spawner asks for ------------------------------------------------------------------

    def started(self, poller: Poller, ended: Handler) -> None:
        """Call `ended` once it has."""
        if self._end is None:
            poller.soon(ended)
        else:
            self._poller = poller
            poller.add(self._end.fileno(), ended)

    def dead(self) -> None:
        """It has ended, and is not reaped: its group's number is still its own."""
        self._unwatch_end()
        self._kill_tree()
        if self._seen is not None:
            self._seen()

    def reap(self) -> bool:
        """The kernel tells of an end shortly before there is a status to take."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return False
            self.exitcode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:  # the program reaps every child by itself
            pass
        self._reaped = True
        self._process.returncode = self.exitcode or 0  # `Popen` need not wait for it
        return True

    def left(self) -> set[int]:
        """Of its group, and of what had left the group before the kill."""
        tree = list(self._tree.values())
        with suppress(OSError):
            os.killpg(self.pid, 0)  # fails when the group is empty, as it mostly is
            tree += [p for p in psutil.process_iter() if _group(p.pid) == self.pid]
        return {process.pid for process in tree if _lives(process)}

    # What the crew asks for ----------------------------------------------------------------------

    def watch(self, poller: Poller, handler: Handler) -> None:
        """Call `handler` when it is dead."""
        self._seen = handler

    def unwatch(self, poller: Poller) -> None:
        """Not any more."""
        self._seen = None

    def interrupt(self) -> None:
        """Step 2. It may leave by itself now, and its descendants become nobody's."""
        self._look()
        self._signal(INTERRUPT_SIGNAL)

    def ask_for_stack(self) -> None:
        """Have it dump its stacks from C."""
        self._signal(STACK_SIGNAL)

    def kill(self) -> None:
        """Step 3. Its descendants are looked up first: orphans cannot be told from others."""
        if not self._reaped:
            self._look()
            self._kill_tree()

    def _look(self) -> None:
        # Some milliseconds, under the engine's lock: `psutil` reads the whole process table.
        with suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                self._tree[process.pid] = process

    def _kill_tree(self) -> None:
        for kill in (os.killpg, os.kill):
            with suppress(OSError):
                kill(self.pid, signal.SIGKILL)
        for process in self._tree.values():
            with suppress(psutil.Error):
                process.kill()  # looks whether it is still the same one

    def _signal(self, number: int) -> None:
        if not self._reaped:
            with suppress(OSError):
                os.kill(self.pid, number)

    def _unwatch_end(self) -> None:
        if self._end is not None:
            if self._poller is not None:
                self._poller.remove(self._end.fileno())
            self._end.close()
            self._end = None

    def close(self) -> None:
        """Give up what watches it."""
        self._unwatch_end()


def _group(pid: int) -> int:
    with suppress(OSError):
        return os.getpgid(pid)
    return -1


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
