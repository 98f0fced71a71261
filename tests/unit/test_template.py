"""The template process, driven over its socket with workers of our own making."""

from __future__ import annotations

import errno
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from andon._engines.local import descriptors, template
from andon._worker import messages
from andon._worker import template as far
from tests.support import PATIENCE, eventually, run_python, wait_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

Act = Callable[[list[int]], None]


class StubBirths(far.Births):
    """Its workers do what the test says, instead of booting."""

    act: Act

    def _become(self, serial: int, fds: list[int]) -> Any:
        self._restore_signals()
        type(self).act(fds)
        os._exit(0)


class Peer:
    """The parent's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.pidfds: dict[int, int] = {}

    def launch(self, serial: int, *fds: int) -> None:
        messages.send(self.sock, marshal.dumps(("launch", serial, len(fds))), fds)

    def next(self) -> tuple[Any, ...]:
        data, fds = messages.receive(self.sock)
        if not data:
            return ("end",)
        message: tuple[Any, ...] = marshal.loads(data)
        for fd in fds:
            self.pidfds[message[1]] = fd
        return message

    def born(self, serial: int, *fds: int) -> int:
        self.launch(serial, *fds)
        message = self.next()
        assert message[:2] == ("born", serial), message
        return int(message[2])

    def connect(self) -> Peer:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        messages.send(self.sock, marshal.dumps(("connect",)), (theirs.fileno(),))
        theirs.close()
        return Peer(ours)

    def close(self) -> None:
        self.sock.close()
        for fd in self.pidfds.values():
            os.close(fd)
        self.pidfds.clear()


@contextmanager
def stub(act: Act) -> Iterator[tuple[Peer, int]]:
    """A template forked here, whose workers run `act`; gone at the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        ours.close()
        StubBirths.act = staticmethod(act)  # type: ignore[assignment]
        far.Births = StubBirths  # type: ignore[misc]
        far.serve(theirs, "fork", [])
    theirs.close()
    peer = Peer(ours)
    try:
        yield peer, pid
    finally:
        peer.close()
        deadline = time.monotonic() + PATIENCE
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            assert time.monotonic() < deadline, "the template stays"
            time.sleep(0.002)


def sleep_on(fds: list[int]) -> None:
    while True:
        signal.pause()


def test_a_worker_is_born_and_its_exit_is_told() -> None:
    def act(fds: list[int]) -> None:
        os.write(fds[0], b"hello")
        os._exit(7)

    with stub(act) as (peer, _):
        read, write = os.pipe()
        pid = peer.born(1, write)
        os.close(write)
        assert os.read(read, 5) == b"hello"
        assert peer.next() == ("exit", 1, 7, ())
        assert os.read(read, 1) == b""  # nobody else holds the other end
        os.close(read)
        wait_gone([pid])


def test_a_signal_shows_as_a_negative_exit_code_and_the_pidfd_wakes() -> None:
    with stub(sleep_on) as (peer, _):
        peer.born(5)
        signal.pidfd_send_signal(peer.pidfds[5], signal.SIGKILL)
        poll = select.poll()
        poll.register(peer.pidfds[5], select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        assert peer.next() == ("exit", 5, -signal.SIGKILL, ())


def test_kill_by_serial() -> None:
    with stub(sleep_on) as (peer, _):
        peer.born(1)
        peer.born(2)
        messages.send(peer.sock, marshal.dumps(("kill", 2)))
        assert peer.next() == ("exit", 2, -signal.SIGKILL, ())


def test_S20_what_a_worker_leaves_is_gone_before_its_exit_is_told(tmp_path: Path) -> None:
    names = tmp_path / "pids"

    def note() -> None:
        with open(names, "a") as f:
            f.write(f"{os.getpid()}\n")

    def act(fds: list[int]) -> None:
        # In its group; in a session of its own; and one that such a one has left behind.
        for escapes in (0, 1, 2):
            if os.fork() == 0:
                if escapes:
                    os.setsid()
                if escapes == 2 and os.fork():
                    os._exit(0)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                note()
                sleep_on([])
        sleep_on([])

    with stub(act) as (peer, _):
        peer.born(1)
        pids = eventually(
            lambda: p if names.exists() and len(p := names.read_text().split()) == 3 else None
        )
        assert pids is not None
        os.kill(peer_pid := int(_pid_of(peer.pidfds[1])), signal.SIGKILL)
        assert peer.next() == ("exit", 1, -signal.SIGKILL, ())
        for pid in [peer_pid, *map(int, pids)]:
            assert not os.path.exists(f"/proc/{pid}"), "not even a zombie"


def _pid_of(pidfd: int) -> str:
    with open(f"/proc/self/fdinfo/{pidfd}") as f:
        return next(line.split()[1] for line in f if line.startswith("Pid:"))


def test_S20_a_peer_that_hangs_up_takes_its_own_workers_with_it() -> None:
    with stub(sleep_on) as (peer, _):
        other = peer.connect()
        mine, theirs = peer.born(1), other.born(2)
        other.close()
        wait_gone([theirs])
        assert os.path.exists(f"/proc/{mine}")
        peer.born(3)  # and the template serves on


def test_S20_the_first_peers_end_is_everyones() -> None:
    with stub(sleep_on) as (peer, pid):
        other = peer.connect()
        pids = [peer.born(1), other.born(2)]
        peer.close()
        wait_gone(pids)
        assert other.next()[0] in ("exit", "end")
        other.close()
        assert pid


def test_one_that_is_told_to_leave_does_so_with_its_last_worker() -> None:
    with stub(sleep_on) as (peer, _):
        pids = [peer.born(1), peer.born(2)]
        messages.send(peer.sock, marshal.dumps(("leave",)))
        os.kill(pids[1], signal.SIGTERM)
        assert peer.next() == ("exit", 2, -signal.SIGTERM, ())
        assert os.path.exists(f"/proc/{pids[0]}")
        os.kill(pids[0], signal.SIGTERM)
        assert peer.next() == ("exit", 1, -signal.SIGTERM, ())
        assert peer.next() == ("end",)


def test_missing_descriptors_are_told_as_such() -> None:
    with stub(sleep_on) as (peer, _):
        messages.send(peer.sock, marshal.dumps(("launch", 9, 3)), ())
        message = peer.next()
        assert message[:3] == ("failed", 9, errno.EMFILE)
        peer.born(10)


def test_a_peer_that_does_not_read_holds_nobody_up() -> None:
    def act(fds: list[int]) -> None:
        os._exit(0)

    with stub(act) as (peer, _):
        deaf = peer.connect()
        deaf.sock.setblocking(False)
        serial = 1000
        # Far more answers than a socket holds.
        for _ in range(400):
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    deaf.launch(serial := serial + 1)
                    break
                except BlockingIOError:
                    assert time.monotonic() < deadline
                    select.select([], [deaf.sock], [], 0.1)
        peer.born(1)
        assert peer.next() == ("exit", 1, 0, ())
        deaf.sock.setblocking(True)
        deaf.sock.settimeout(PATIENCE)
        told = [deaf.next() for _ in range(800)]
        assert sum(m[0] == "exit" for m in told) == 400
        deaf.close()


def test_the_template_ignores_what_a_terminal_or_a_supervisor_sends() -> None:
    with stub(sleep_on) as (peer, pid):
        worker = peer.born(1)
        assert os.getpgid(pid) == pid and os.getpgid(worker) == worker
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        peer.born(2)
        os.kill(worker, signal.SIGTERM)  # a worker does not ignore that one
        assert peer.next() == ("exit", 1, -signal.SIGTERM, ())


# Our end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_pools_share_a_template_and_it_stays_warm(method: str) -> None:
    first = template.connect(method)
    second = template.connect(method)
    assert first.template is second.template
    pid = first.template.pid
    first.close()
    second.close()
    third = template.connect(method)
    assert third.template.pid == pid
    third.close()
    assert template.close_idle()
    assert not os.path.exists(f"/proc/{pid}")


def test_close_idle_leaves_those_in_use_alone() -> None:
    link = template.connect("forkserver")
    assert template.close_idle()
    assert link.template.alive()
    link.close()
    assert template.close_idle()
    assert not link.template.alive()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_template_that_was_killed_is_replaced(method: str) -> None:
    link = template.connect(method)
    os.kill(link.template.pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    poll.poll(PATIENCE * 1000)
    assert link.receive() == [] and link.lost
    link.close()
    again = template.connect(method)
    assert again.template is not link.template and again.template.alive()
    again.close()


def test_hooks_run_around_the_fork_of_this_process() -> None:
    told: list[str] = []

    def before() -> None:
        told.append("before")

    def after() -> None:
        told.append("after")

    template.before_fork_hooks.append(before)
    template.after_fork_hooks.append(after)
    try:
        link = template.connect("fork", {}, lambda: told.append("last"))
    finally:
        template.before_fork_hooks.remove(before)
        template.after_fork_hooks.remove(after)
    assert told == ["before", "last", "after"]
    pid = link.template.pid
    link.close()
    assert link.template.end(PATIENCE)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_stopped_template_is_killed_in_the_end() -> None:
    link = template.connect("fork")
    os.kill(link.template.pid, signal.SIGSTOP)
    link.close()
    assert link.template.end(0.05)


def test_forked_children_hold_none_of_our_descriptors() -> None:
    link = template.connect("forkserver")
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, b"%d" % (descriptors.count() + (link.fileno() >= 0)))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"0"
    assert link.template.alive()
    os.close(read)
    os.close(write)
    link.close()


def test_forks_of_other_threads_never_keep_a_socket_open() -> None:
    """The template sees our end of file though children were forked all the while."""
    stop, children = threading.Event(), []

    def forker() -> None:
        while not stop.is_set():
            children.append(subprocess.Popen(["sleep", "30"], close_fds=False))
            time.sleep(0.01)

    thread = threading.Thread(target=forker)
    thread.start()
    try:
        for _ in range(10):
            link = template.connect("forkserver")
            pid = link.template.pid
            link.close()
            assert template.close_idle(PATIENCE)
            wait_gone([pid])
    finally:
        stop.set()
        thread.join()
        for child in children:
            child.kill()
            child.wait()


def test_no_template_outlives_its_process() -> None:
    code = (
        "from andon._engines.local import template\n"
        "import os, signal, sys\n"
        "links = [template.connect(m) for m in ('fork', 'forkserver', 'spawn')]\n"
        "print(*(link.template.pid for link in links), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run_python(["-c", code])
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 3
    wait_gone(pids, 2.0)
