"""The template: the one process that starts every worker and every replacement, on Linux.

    parent --- SOCK_SEQPACKET, one "peer" per engine --- template --- fork or spawn --- workers

Under `fork` it is a fork of the parent (it holds the user's globals, one per pool); under
`forkserver` and `spawn` a fresh interpreter, shared by all pools of the process. A parent with
threads thus never forks workers itself.

Messages are marshalled tuples; descriptors travel beside them (SCM_RIGHTS).
    to the template:   ("launch", serial, n) + n descriptors   start a worker
                       ("adopt", serial)                       have the one that was started beside
                       ("kill", serial)                        SIGKILL a worker and its group
                       ("connect",) + 1 descriptor             serve one more peer
                       ("leave",)                              leave with the last worker
    from the template: ("born", serial, pid) + pidfd (none where descriptors have run out)
                       ("failed", serial, errno, text)         it could not be started
                       ("dying", serial, pids)                 these only want a core to die
                       ("exit", serial, exitcode, leftover)    it and its whole tree are gone

Invariants
 1. One thread, no user code, and no wait for any peer: sockets never block, output is queued.
 2. A worker's process group is killed before the worker is reaped, so no pid is ever stale.
 3. "exit" is sent when no child is left but registered workers (S20, S22), or with the pids that
    would not die: a second after the last of them wanted a core for it, if ever (S21). The
    template is a subreaper: what a dead worker leaves behind comes here, and every child that is
    not a registered worker is killed on sight.
 4. End of file from a peer kills its workers; from the first peer (the parent is gone, however it
    died) kills all, and the template leaves.
"""

from __future__ import annotations

import errno
import gc
import marshal
import math
import os
import select
import sys
import time

assert sys.platform == "linux"

from andon._worker import messages
from andon._worker.births import Births
from andon._worker.children import become_subreaper, wants_core
from andon._worker.messages import Peer
from andon._worker.orphans import Orphans, kill_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from typing import Any, NoReturn
else:  # the modules around these take longer to load than the interpreter around us to start
    import _signal as signal
    import _socket as socket

ORPHAN_WAIT = 1.0
# A niced process on busy cores gets one after many seconds: it is about to die, and not stuck.
STARVED_WAIT = 30.0
_LOOK_AGAIN = 0.1
# The parent decides when to go; it may well be in an orderly shutdown of its own (S32).
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_AT_ONCE = ("andon._worker.boot", "_ctypes")
# Only what stops, fails or travels by value needs these, and takes longer to load than a worker
# takes to start: they are loaded once nobody has asked for anything for a while.
_LATER = ("cloudpickle", "ast", "traceback")
_QUIET = 0.02


class _Child:
    """A registered worker."""

    __slots__ = ("deadline", "exitcode", "latest", "others", "peer", "pid", "pidfd", "serial")

    def __init__(self, serial: int, pid: int, pidfd: int, peer: Peer) -> None:
        self.serial = serial
        self.pid = pid
        self.pidfd = pidfd
        self.peer = peer
        self.exitcode: int | None = None
        self.deadline = self.latest = 0.0  # for what it left behind
        self.others: set[int] = set()  # what had been left when it died


class Template:
    """The state of a template process; `run` is its whole life."""

    def __init__(
        self,
        root: socket.socket,
        method: str,
        command: list[str],
        dispositions: dict[int, Any],
        first: int = 0,
    ) -> None:
        self._births = Births(method, command, dispositions, self._let_go)
        self._root = Peer(root)
        self._peers: dict[int, Peer] = {self._root.fd: self._root}
        self._children: dict[int, _Child] = {}  # by pidfd
        self._first = first  # a worker that was started beside us, until somebody has it
        self._pids = {first} if first else set()  # of registered workers
        self._dying: list[_Child] = []  # reaped; their orphans are not yet gone
        self._leaving = False  # nothing more is to be launched
        self._leave_at = math.inf  # once the parent is gone
        self._later = [] if method == "spawn" else [n for n in _LATER if n not in sys.modules]
        self._epoll = select.epoll()
        self._epoll.register(self._root.fd, select.EPOLLIN)
        self._orphans = Orphans(self._epoll, self._pids)

    def run(self) -> None:
        while self._is_needed():
            ready = [fd for fd, _ in self._epoll.poll(self._timeout())]
            if not ready and self._later:
                self._load_one()
            for fd in ready:  # deaths first: somebody waits for them, and a fork takes its time
                if fd in self._children:
                    self._reap(self._children[fd])
            for fd in ready:
                peer = self._peers.get(fd)
                if peer is not None:
                    self._flush(peer)
                    self._receive(peer)
            if self._dying or self._orphans:
                self._see_off()

    def _is_needed(self) -> bool:
        if self._children or self._dying:
            return time.monotonic() < self._leave_at
        return self._root.open and not (self._leaving and not self._root.out)

    def _timeout(self) -> float:
        if self._dying and self._orphans.unwatched():
            return 0.005
        due = self._leave_at
        if self._dying:
            due = min(due, time.monotonic() + _LOOK_AGAIN)
        if self._later:
            due = min(due, time.monotonic() + _QUIET)
        return -1 if due == math.inf else max(0.0, due - time.monotonic()) + 0.001

    def _load_one(self) -> None:
        _load(self._later.pop(0))
        gc.freeze()

    # Peers --------------------------------------------------------------------------------------

    def _receive(self, peer: Peer) -> None:
        # One message a round: a long row of launches must not hold up the news of a death.
        try:
            data, fds = messages.receive(peer.sock)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._hang_up(peer)
            return
        message = marshal.loads(data)
        if message[0] == "launch":
            self._launch(peer, message[1], message[2], fds)
        elif message[0] == "adopt":
            pid, self._first = self._first, 0
            self._enter(peer, message[1], pid)
        elif message[0] == "kill":
            for child in self._children.values():
                if child.serial == message[1]:
                    kill_group(child.pid)
        elif message[0] == "leave":
            self._leaving = True
        elif message[0] == "connect" and fds:
            new = Peer(socket.socket(fileno=fds[0]))
            self._peers[new.fd] = new
            self._epoll.register(new.fd, select.EPOLLIN)

    def _tell(self, peer: Peer, message: tuple[Any, ...], fd: int | None = None) -> None:
        if peer.open:
            peer.say(message, fd)
            self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        waited = peer.waits
        if not peer.flush():
            self._hang_up(peer)
        elif peer.waits != waited:
            mask = select.EPOLLIN | (select.EPOLLOUT if peer.waits else 0)
            self._epoll.modify(peer.fd, mask)

    def _hang_up(self, peer: Peer) -> None:
        if not peer.open:
            return
        self._epoll.unregister(peer.fd)
        del self._peers[peer.fd]
        peer.close()
        if peer is self._root:
            self._leave_at = time.monotonic() + 2 * ORPHAN_WAIT
            if self._first:
                kill_group(self._first)
        for child in list(self._children.values()):
            if child.peer is peer or not self._root.open:
                kill_group(child.pid)

    # Births -------------------------------------------------------------------------------------

    def _launch(self, peer: Peer, serial: int, expected: int, fds: list[int]) -> None:
        try:
            if len(fds) < expected:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            pid = self._births.make(serial, fds)
        except OSError as exc:
            self._tell(peer, ("failed", serial, exc.errno or 0, str(exc)))
            return
        finally:
            for fd in fds:
                os.close(fd)
        self._enter(peer, serial, pid)

    def _enter(self, peer: Peer, serial: int, pid: int) -> None:
        """Register a worker, and tell that it was born."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as exc:
            kill_group(pid)
            os.waitpid(pid, 0)
            self._pids.discard(pid)
            self._tell(peer, ("failed", serial, exc.errno or 0, str(exc)))
            return
        child = _Child(serial, pid, pidfd, peer)
        self._children[pidfd] = child
        self._pids.add(pid)
        self._epoll.register(pidfd, select.EPOLLIN)
        try:
            self._tell(peer, ("born", serial, pid), pidfd)
        except OSError:  # no descriptor left for the copy; the parent may open one itself
            self._tell(peer, ("born", serial, pid))

    def _let_go(self) -> None:
        """A worker that was forked off has nothing to do with our descriptors."""
        self._epoll.close()
        for peer in self._peers.values():
            peer.close()
        for pidfd in [*self._children, *self._orphans.pidfds()]:
            os.close(pidfd)

    # Deaths -------------------------------------------------------------------------------------

    def _reap(self, child: _Child) -> None:
        try:
            os.killpg(child.pid, signal.SIGKILL)  # before reaping: the number is still ours
        except OSError:
            pass
        try:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                return
            child.exitcode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            child.exitcode = None
        self._epoll.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._children[child.pidfd]
        self._pids.discard(child.pid)
        child.deadline = time.monotonic() + ORPHAN_WAIT
        child.latest = time.monotonic() + STARVED_WAIT
        child.others = self._orphans.pids()
        self._dying.append(child)

    def _see_off(self) -> None:
        """Tell of the dead once nothing is left of what they had started."""
        found = self._orphans.sweep()
        now = time.monotonic()
        waiting = []
        for child in self._dying:
            child.others &= found  # a number may come again
            left = found - child.others
            self._be_patient(child, now, left)
            if left and now < child.deadline:
                waiting.append(child)
            else:
                leftover = tuple(sorted(left))
                self._tell(child.peer, ("exit", child.serial, child.exitcode, leftover))
        self._dying = waiting

    def _be_patient(self, child: _Child, now: float, left: set[int]) -> None:
        until = min(now + ORPHAN_WAIT, child.latest)
        # Not at every event: most are gone a moment after they were killed.
        if until - child.deadline > _LOOK_AGAIN / 2 and any(map(wants_core, left)):
            child.deadline = until
            self._tell(child.peer, ("dying", child.serial, tuple(left)))


def preload(*, all_of_it: bool) -> None:
    """Import what every forked worker needs, where workers inherit it: `all_of_it`, or what the
    template itself will not load later. Under `fork` the parent does it."""
    for name in (*_AT_ONCE, *_LATER) if all_of_it else _AT_ONCE:
        _load(name)


def _load(name: str) -> None:
    try:
        __import__(name)
    except ImportError:
        pass  # it fails again, and is reported, where it is used


def serve(root: socket.socket, method: str, command: list[str], first: int = 0) -> NoReturn:
    """Be a template until the parent is gone. Never returns, runs no exit handlers."""
    code = 70
    try:
        # What the user's program ignored stays ignored in workers (nohup); a handler cannot stay.
        dispositions: dict[int, Any] = {
            n: signal.SIG_IGN if signal.getsignal(n) == signal.SIG_IGN else signal.SIG_DFL
            for n in _IGNORED
        }
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # nobody could tell how they end
            dispositions[signal.SIGCHLD] = signal.SIG_IGN
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):  # inherited by fork
                signal.signal(number, signal.SIG_DFL)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        try:
            os.setpgid(0, 0)
        except OSError:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        become_subreaper()
        if method == "forkserver":
            preload(all_of_it=False)
        # Collections here would only touch, and so copy, pages that are shared with workers;
        # and an inherited object's finalizer is no business of this process.
        gc.disable()
        gc.freeze()
        template = Template(root, method, command, dispositions, first)
        template.run()  # and then it is left as it is: nothing is closed one by one
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def main() -> NoReturn:
    """Entry of a fresh interpreter: `argv` holds the socket, the method, the command of a worker,
    and the process number of one that was started beside us (0: none)."""
    fd = int(sys.argv[1])
    os.closerange(fd + 1, 1 << 20)  # what the parent had made inheritable is not ours
    os.closerange(3, fd)
    os.set_inheritable(fd, False)
    serve(socket.socket(fileno=fd), sys.argv[2], sys.argv[3:-1], int(sys.argv[-1]))
