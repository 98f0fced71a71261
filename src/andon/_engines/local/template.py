"""Our end of the template, the process that starts workers on Linux (see `andon._worker.template`).

`connect(method)` gives an engine a link of its own: to a fork of this process made now (`fork`,
one per pool), or to the one fresh interpreter per start method, started when first needed, kept
warm, and ended at exit or by `close_idle()`.

Invariants
 1. Nothing here waits for a template, except `end` and `close_idle`, which are bounded (S21).
 2. While we fork, `before_fork_hooks` have paused our own threads; they run again afterwards,
    whatever happened.
 3. A template is ours alone: a forked child of this process knows none.
"""

from __future__ import annotations

import atexit
import errno
import marshal
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

assert sys.platform == "linux"

from andon._engines.local import descriptors
from andon._engines.local.interpreter import interpreter, starting
from andon._engines.local.platform.linux import Hold, Poller
from andon._engines.local.timers import Handler, Timers
from andon._gate import uninterrupted
from andon._locks import make_lock
from andon._worker import template as far
from andon._worker.frozen import is_frozen
from andon._worker.inherited import inherited

# The runtime's: pause and resume its threads around the fork of this process.
before_fork_hooks: list[Callable[[], None]] = []
after_fork_hooks: list[Callable[[], None]] = []

END_WITHIN = 1.0
_IN_FLIGHT = 8  # launches unanswered at once; more only wait in the template's queue

_lock = make_lock()
_shared: dict[str, Template] = {}
_exiting = False


class Template:
    """A template process and the socket that it lives by."""

    def __init__(self, method: str, pid: int, root: socket.socket) -> None:
        self.method = method
        self.pid = pid
        self.root = root
        self.links = 0  # open ones, of a shared template
        self._reaped = False

    def alive(self) -> bool:
        """Is it still running? Reaps it if not."""
        if not self._reaped:
            try:
                self._reaped = os.waitpid(self.pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # the program reaps every child by itself
                self._reaped = not exists(self.pid)
        return not self._reaped

    def end(self, within: float) -> bool:
        """Hang up; it kills what it still has and leaves. Waits; True when it is gone."""
        descriptors.close(self.root)
        deadline = time.monotonic() + within
        if self._wait(deadline):
            return True
        self.kill()
        return self._wait(time.monotonic() + 0.5)

    def kill(self) -> None:
        """It hangs."""
        if self.alive():
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)

    def _wait(self, deadline: float) -> bool:
        if not self.alive():
            return True
        try:
            pidfd = os.pidfd_open(self.pid)
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


class Link:
    """One engine's connection to a template. Not thread-safe; never blocks."""

    def __init__(self, template: Template, sock: socket.socket) -> None:
        self.template = template
        self._sock = sock
        self._out: deque[tuple[int, list[int], list[int]]] = deque()
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
        self._out.append((serial, fds, close))
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
            far.send(self._sock, marshal.dumps(("kill", serial)))

    def flush(self) -> None:
        """Send what can be sent."""
        while self.backlog and not self.lost:
            serial, fds, close = self._out[0]
            try:
                far.send(self._sock, marshal.dumps(("launch", serial, len(fds))), tuple(fds))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno == errno.ETOOMANYREFS:
                    return
                self.lost = True  # its end of file, or its death, tells the rest
                return
            self._out.popleft()
            self._unanswered.add(serial)
            descriptors.close(*close)

    def receive(self) -> list[tuple[tuple[Any, ...], Hold | None]]:
        """The messages that have come, each with its pidfd if any; sets `lost` at the end."""
        found: list[tuple[tuple[Any, ...], Hold | None]] = []
        while not self.lost:
            try:
                with descriptors.guard:
                    data, fds = far.receive(self._sock)
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
                far.send(self._sock, marshal.dumps(("leave",)))

    def overdue(self, serial: int) -> None:
        """It has not said what became of that launch: it hangs, or was stopped (S21)."""
        self.template.kill()

    def bury(self, pids: list[int]) -> None:
        """It is lost: what it had started goes with it."""
        self.template.alive()  # reaps it
        for pid in pids:
            kill_tree(pid)

    def drop(self, serial: int) -> bool:
        """Take back a launch that has not been sent; True where that was in time."""
        for entry in self._out:
            if entry[0] == serial:
                self._out.remove(entry)
                descriptors.close(*entry[2])
                return True
        return False

    def close(self) -> None:
        """Hang up: the template kills what we still have there. `end` a lone template after."""
        for _, _, close in self._out:
            descriptors.close(*close)
        self._out.clear()
        self.lost = True
        if self._poller is not None:
            self._poller.remove(self.fileno())
            self._poller = None
        descriptors.close(self._sock)
        with _lock:
            self.template.links -= 1
            idle = _exiting and self.template.links <= 0 and self.template.method != "fork"
        if idle:
            _end_all([self.template], END_WITHIN)

    def end(self, within: float) -> list[int]:
        """Hang up for good. Waits for a template that serves us alone; its pid, if it stays."""
        self.close()
        alone = self.template.method == "fork"
        return [self.template.pid] if alone and not self.template.end(within) else []


def connect(
    method: str,
    inherit: Mapping[int, Any] | None = None,
    before_fork: Callable[[], None] | None = None,
) -> Link:
    """A link to a template for this start method; raises OSError where there can be none.

    `inherit`: objects that a forked template takes along; `before_fork` is run right before.
    """
    if method == "fork":
        return _fork(inherit or {}, before_fork)
    with _lock:
        for again in (True, False):
            template = _shared.get(method)
            if template is None or not template.alive():
                if template is not None:
                    descriptors.close(template.root)
                template = _shared[method] = _start(method)
            ours, theirs = _pair()
            try:
                far.send(template.root, marshal.dumps(("connect",)), (theirs,))
            except OSError:
                descriptors.close(ours)
                del _shared[method]
                template.end(0.0)  # it has hung up, or hangs
                if not again:
                    raise
                continue
            finally:
                descriptors.close(theirs)
            template.links += 1
            return Link(template, ours)
        raise AssertionError("unreachable")


def prepare(method: str) -> None:
    """Start the template that `connect` will want, if there is none: it takes a while."""
    if method != "fork":
        with _lock, suppress(OSError):  # `connect` meets it, too
            template = _shared.get(method)
            if template is None:
                _shared[method] = _start(method)


def close_idle(within: float = END_WITHIN) -> bool:
    """End the shared templates that no pool uses. Waits; True when they are gone."""
    with _lock:
        idle = [m for m, t in _shared.items() if t.links <= 0]
        templates = [_shared.pop(m) for m in idle]
    return _end_all(templates, within)


def _end_all(templates: list[Template], within: float) -> bool:
    deadline = time.monotonic() + within
    for template in templates:
        descriptors.close(template.root)
    ended = [t.end(max(0.0, deadline - time.monotonic())) for t in templates]
    return all(ended)


def _pair() -> tuple[socket.socket, int]:
    """Our end, non-blocking and kept; and theirs, a bare descriptor."""
    with descriptors.guard:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        return descriptors.keep(ours), descriptors.keep(theirs.detach())


def _start(method: str) -> Template:
    """A fresh interpreter, in a process group of its own: Ctrl-C is not for it."""
    command = interpreter()
    lean = ["-S"] if method == "spawn" and not is_frozen() else []  # it imports nothing but ours
    ours, theirs = _pair()
    try:
        # Everything but the socket is closed on exec, or else by the template itself.
        pid = os.posix_spawn(
            command[0],
            [*starting([*command, *lean], "andon._worker.template"), "3", method, *command],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 3),
            ],
            setpgroup=0,
            setsigmask=(),
        )
    except BaseException:
        descriptors.close(ours)
        raise
    finally:
        descriptors.close(theirs)
    return Template(method, pid, ours)


def _fork(inherit: Mapping[int, Any], before_fork: Callable[[], None] | None) -> Link:
    """A fork of this process. Its one socket is both its root and the link."""
    # A child must not import what a thread of ours may be importing right now.
    far.preload(all_of_it=len(sys._current_frames()) > 1)
    _flush()
    for hook in before_fork_hooks:
        hook()
    try:
        with descriptors.guard:  # so that no other fork takes their end along
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            descriptors.keep(ours)
            try:
                inherited.update(inherit)
                if before_fork is not None:
                    before_fork()
                held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                try:
                    pid = os.fork()
                    if not pid:
                        far.serve(theirs, "fork", [])
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, held)
            except BaseException:
                descriptors.close(ours)
                raise
            finally:
                theirs.close()
                for key in inherit:
                    inherited.pop(key, None)
    finally:
        for hook in after_fork_hooks:
            hook()
    template = Template("fork", pid, ours)
    template.links = 1
    return Link(template, ours)


def _flush() -> None:
    # What the program has printed and not yet flushed must not be printed again by workers.
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


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


def _at_exit() -> None:
    # Exit handlers run in an order that we do not choose: a template that still serves a pool is
    # ended by the last link's close.
    global _exiting
    _exiting = True
    with uninterrupted:
        close_idle()


def _after_fork_in_child() -> None:
    global _lock
    _lock = make_lock()
    _shared.clear()


# Here, where a program expects to wait for imports, and not when its first pool is opened.
far.preload(all_of_it=False)
atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
