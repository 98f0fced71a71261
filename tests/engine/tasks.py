"""What the workers of these tests run."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from andon import task as andon_task
from andon._worker.state import current
from tests.support import Stage


def add(a: int, b: int = 0) -> int:
    return a + b


def square(x: int) -> int:
    return x * x


def my_pid(*_: object) -> int:
    return os.getpid()


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def fail_at(item: int) -> int:
    if item == 3:
        raise ValueError(f"item {item}")
    return item


def exit_with(code: int) -> NoReturn:
    os._exit(code)


def exit_at(item: int) -> int:
    if item == 3:
        os._exit(5)
    return item


def segfault() -> None:
    ctypes.string_at(0)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


def size(data: bytes) -> int:
    return len(data)


def big(length: int) -> bytes:
    return b"x" * length


def die_sending(length: int, running: Stage) -> Any:
    """A result so large that its sender is at it when it is killed."""
    running.reach(os.getpid())
    return bytes(length)


def hold(running: Stage, go: Stage) -> int:
    running.reach(os.getpid())
    go.hold()
    return os.getpid()


def ladder_told() -> tuple[float, float]:
    return current.row.ladder


def uneven(kind: type, running: Stage, go: Stage, item: tuple[int, float | None]) -> Any:
    """An item that takes as long as it says (None: until it is let go); its number, of a kind."""
    number, seconds = item
    if seconds is None:
        running.reach()
        go.hold()
    elif seconds:
        time.sleep(seconds)
    return kind(number)


# Siblings to stop ---------------------------------------------------------------------------------


def check_loop(running: Stage) -> None:
    andon_task.check()
    running.reach(os.getpid())
    while True:
        andon_task.check()


def nap(running: Stage) -> None:
    running.reach(os.getpid())
    time.sleep(60)


def spin(running: Stage) -> None:
    running.reach(os.getpid())
    while True:
        pass


def swallow(running: Stage) -> None:
    announced = False
    while True:
        try:
            while True:  # twice: a loop's own jump back is outside of its `try`
                try:
                    if not announced:
                        announced = True
                        running.reach(os.getpid())
                    while True:
                        pass
                except BaseException:
                    pass
        except BaseException:
            pass


def hold_the_gil(running: Stage) -> None:
    """Announced from within: from then on no interrupt is felt."""
    fd = os.open(running.path + ".said", os.O_WRONLY | os.O_CLOEXEC)
    told = itertools.starmap(os.write, [(fd, f"{os.getpid()}\n".encode())])
    sum(itertools.chain(told, range(10**11)))


def stop_self(running: Stage) -> None:
    running.reach(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def clean_up(running: Stage, cleaning: Stage, go: Stage) -> None:
    try:
        running.reach(os.getpid())
        time.sleep(60)
    finally:
        cleaning.reach()
        go.hold()


def clean_up_badly(running: Stage) -> None:
    try:
        running.reach(os.getpid())
        time.sleep(60)
    finally:
        raise OSError("the clean-up failed")


def with_children(running: Stage) -> None:
    """One child in our group, one in a session of its own, one whose parent is gone."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    children = [
        subprocess.Popen([sys.executable, "-S", "-c", code]),
        subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True),
    ]
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = os.fork()
        if child == 0:
            time.sleep(60)
        os.write(write, b"%d" % child)
        os._exit(0)
    orphan = int(os.read(read, 20))
    os.wait()
    running.reach(" ".join(map(str, (os.getpid(), *(c.pid for c in children), orphan))))
    time.sleep(60)


def with_idle_child(running: Stage, core: int) -> None:
    """One outside our group, who gets a core only where nobody else wants it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.sched_setaffinity(0, {core})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.write(write, b"1")
        while True:
            pass
    os.read(read, 1)
    running.reach(child)
    time.sleep(60)


def with_threads(running: Stage) -> None:
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(60,)).start()
    running.reach(os.getpid())
    time.sleep(60)


listening: list[socket.socket] = []


def listen(running: Stage) -> None:
    """On a port, without ever closing it."""
    listening.append(socket.create_server(("127.0.0.1", 0)))
    running.reach(listening[0].getsockname()[1])
    time.sleep(60)


# Initializers -------------------------------------------------------------------------------------

initialised: list[Any] = []


def surroundings() -> list[Any]:
    """What this process was started with, but for numbers."""
    with open("/proc/self/status") as file:
        signals = [line for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    libc = ctypes.CDLL(None)
    subreaper = ctypes.c_int()
    libc.prctl(37, ctypes.byref(subreaper), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    open_files = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            open_files.append(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
        except OSError:  # the list's own
            pass
    return [
        os.getpgrp() == os.getpid(), os.getcwd(), dict(os.environ), sys.path, sys.argv,
        repr(sys.flags), signals, subreaper.value, sorted(open_files),
    ]  # fmt: skip


def initialise(*args: Any) -> None:
    initialised.append((os.getpid(), args))


def was_initialised() -> list[Any]:
    return list(initialised)


def try_lock() -> bool:
    lock = initialised[0][1][0]
    if not lock.acquire(block=False):
        return False
    lock.release()
    return True


def initialise_and_tell(told: Stage) -> None:
    told.reach(os.getpid())


def fail_to_initialise() -> NoReturn:
    raise LookupError("no such table")


def die_initialising() -> NoReturn:
    os._exit(9)


# Poison -------------------------------------------------------------------------------------------


def _raise(text: str) -> NoReturn:
    raise RuntimeError(text)


def _die(code: int) -> NoReturn:
    os._exit(code)


class CannotUnpickle:
    """Pickles well, and raises where it is unpickled."""

    def __reduce__(self) -> Any:
        return _raise, ("no way back",)


class CannotUnpickleElsewhere:
    """Only in another process than this one."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __reduce__(self) -> Any:
        return _here_only, (self.pid,)


def _here_only(pid: int) -> CannotUnpickleElsewhere:
    if os.getpid() != pid:
        raise RuntimeError("a stranger here")
    return CannotUnpickleElsewhere()


class DiesUnpickling:
    def __reduce__(self) -> Any:
        return _die, (11,)


class CannotPickle:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Picky(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def make(kind: type) -> Any:
    return kind()


def take(*_: object) -> str:
    return "taken"


def raise_picky() -> NoReturn:
    raise Picky(1, 2)


def raise_unpicklable() -> NoReturn:
    error = ValueError("heavy")
    error.load = threading.Lock()  # type: ignore[attr-defined]
    raise error


def leave(how: str) -> NoReturn:
    if how == "exit":
        sys.exit(0)
    if how == "interrupt":
        raise KeyboardInterrupt
    raise GeneratorExit
