"""One engine's connection to a template: launches and kills go there, news of workers come back."""

from __future__ import annotations

import errno
import marshal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

assert sys.platform == "linux"

from andon._engines.local import descriptors
from andon._engines.local.platform.linux import Hold, Poller
from andon._engines.local.template_process import Template, kill_tree
from andon._engines.local.timers import Handler, Timers
from andon._worker import children, messages

_IN_FLIGHT = 8  # launches unanswered at once; more only wait in the template's queue


class _Launch:
    """Of a worker: what is sent, and what we give up once it has been."""

    def __init__(self, serial: int, fds: list[int], close: list[int]) -> None:
        self.serial = serial
        self.message: tuple[Any, ...] = ("launch", serial, len(fds))
        self.fds = fds
        self.close = close

    def begun(self) -> None:
        """The worker was started beside the template, who is to adopt it."""
        self.message, self.fds = ("adopt", self.serial), []


class Link:
    """Not thread-safe; never blocks."""

    def __init__(
        self, template: Template, sock: socket.socket, closed: Callable[[Template], None]
    ) -> None:
        self.template = template
        self._sock = sock
        self._closed = closed  # the template has a link less
        self._out: deque[_Launch] = deque()
        self._unanswered: set[int] = set()
        self._poller: Poller | None = None
        self.lost = False

    def attach(self, poller: Poller, timers: Timers, news: Handler) -> None:
        """Call `news` when there is something to `receive`."""
        self._poller = poller
        poller.add(self.fileno(), news)

    def fileno(self) -> int:
        """To poll for reading, and for writing while `backlog`."""
        return self._sock.fileno()

    @property
    def backlog(self) -> bool:
        """Is a launch waiting for room in the socket?"""
        return bool(self._out) and len(self._unanswered) < _IN_FLIGHT

    def launch(self, serial: int, fds: list[int], close: list[int]) -> None:
        """Have a worker started with these descriptors; then close those in `close`."""
        self._out.append(_Launch(serial, fds, close))
        self.flush()
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        if self._poller is not None:
            self._poller.also_writable(self.fileno(), self.backlog)

    def hold(self, pid: int) -> Hold:
        """A hold of one that was born without; raises OSError."""
        return Hold.open(pid)

    def kill(self, serial: int) -> None:
        """Kill a worker whose pid we do not have a hold of."""
        with suppress(OSError):
            messages.send(self._sock, marshal.dumps(("kill", serial)))

    def flush(self) -> None:
        """Send what can be sent."""
        while self.backlog and not self.lost:
            launch = self._out[0]
            if self.template.start((launch.serial, launch.fds)):
                launch.begun()
            try:
                messages.send(self._sock, marshal.dumps(launch.message), tuple(launch.fds))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno == errno.ETOOMANYREFS:
                    return
                self.lost = True
                with suppress(OSError):  # in any case there is an end of file, to call for news
                    self._sock.shutdown(socket.SHUT_RDWR)
                return
            self._out.popleft()
            self._unanswered.add(launch.serial)
            descriptors.close(*launch.close)

    def receive(self) -> list[tuple[tuple[Any, ...], Hold | None]]:
        """The messages that have come, each with its pidfd if any; sets `lost` at the end."""
        found: list[tuple[tuple[Any, ...], Hold | None]] = []
        while not self.lost:
            try:
                with descriptors.guard:
                    data, fds = messages.receive(self._sock)
                    for fd in fds:
                        descriptors.keep(fd)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data, fds = b"", []
            if not data:
                self.lost = True
                break
            message = marshal.loads(data)
            if message[0] in ("born", "failed"):
                self._unanswered.discard(message[1])
            found.append((message, Hold(fds[0]) if fds else None))
        self.flush()
        if not self.lost:
            self._wait_for_room()
        elif self._poller is not None:
            self._poller.remove(self.fileno())
        return found

    def finish(self) -> None:
        """Nothing more will be launched: a template that serves us alone leaves with its last
        worker, which is sooner than `end` could tell it."""
        if self.template.method == "fork" and not self.lost:
            with suppress(OSError):
                messages.send(self._sock, marshal.dumps(("leave",)))

    def overdue(self, serial: int) -> None:
        """It has not said what became of that launch: it hangs, or was stopped (S21)."""
        self.template.kill()

    def starves(self) -> bool:
        """Does the template only wait for a core to tell us more?"""
        return not self.lost and children.wants_core(self.template.pid)

    def bury(self, pids: list[int]) -> None:
        """It is lost: what it had started goes with it."""
        self.template.alive()  # reaps it
        for pid in pids:
            kill_tree(pid)

    def drop(self, serial: int) -> bool:
        """Take back a launch that has not been sent; True where that was in time."""
        for launch in self._out:
            if launch.serial == serial:
                self._out.remove(launch)
                descriptors.close(*launch.close)
                return True
        return False

    def close(self) -> None:
        """Hang up: the template kills what we still have there. `end` a lone template after."""
        for launch in self._out:
            descriptors.close(*launch.close)
        self._out.clear()
        self.lost = True
        if self._poller is not None:
            self._poller.remove(self.fileno())
            self._poller = None
        descriptors.close(self._sock)
        self._closed(self.template)

    def end(self, within: float) -> list[int]:
        """Hang up for good. Waits for a template that serves us alone; its pid, if it stays."""
        self.close()
        alone = self.template.method == "fork"
        return [self.template.pid] if alone and not self.template.end(within) else []
