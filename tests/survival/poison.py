"""Objects that cannot travel and tasks that spoil their worker; importable."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import andon
from tests.support import Stage

# What cannot be pickled, by kind; made where it is wanted, since it cannot travel. ---------------


class Refuses:
    """Its pickling raises what it was told to."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> NoReturn:
        raise self.kind("no pickle of me")


class Mute:
    """It answers nothing that it is asked."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name}")

    def __reduce__(self) -> NoReturn:
        raise TypeError("no pickle of me")


class Holder:
    """Something unpicklable, two levels down."""

    def __init__(self, inside: Any) -> None:
        self.inside = [inside]


def nested(depth: int = 100_000) -> list[Any]:
    """Deeper than any recursion."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


UNPICKLABLE: dict[str, tuple[Any, type[BaseException]]] = {
    "PicklingError": (lambda: Refuses(pickle.PicklingError), pickle.PicklingError),
    "TypeError": (lambda: threading.Lock(), TypeError),
    "AttributeError": (lambda: Refuses(AttributeError), AttributeError),
    "RecursionError": (nested, RecursionError),
    "ValueError": (lambda: Refuses(ValueError), ValueError),
    "no answer": (Mute, TypeError),
    "generator": (lambda: (x for x in ()), TypeError),
    "closed socket": (lambda: _closed_socket(), OSError),
    "deep inside": (lambda: Holder(threading.Lock()), TypeError),
}


def _closed_socket() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def make_unpicklable(kind: str) -> Any:
    return UNPICKLABLE[kind][0]()


def refuse_with(kind: str) -> Any:
    """A result whose pickling raises something that is no Exception."""
    return Refuses({"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[kind])


# Exceptions that do not travel well --------------------------------------------------------------


class WantsTwo(Exception):
    """Its `__init__` needs more than its `args` hold."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Lies(Exception):
    """Its pickle gives something else."""

    def __reduce__(self) -> Any:
        return str, ("I am an exception, honestly",)


class LiesWithAClass(Exception):
    """Its pickle gives a class of exceptions, not one of them."""

    def __reduce__(self) -> Any:
        return getattr, (sys.modules["builtins"], "ValueError")


class ReduceRaises(Exception):
    def __reduce__(self) -> NoReturn:
        raise ZeroDivisionError("in __reduce__")


class CarriesALock(Exception):
    def __init__(self) -> None:
        super().__init__("look what I have")
        self.lock = threading.Lock()


class Unspeakable(Exception):
    """Says nothing of itself, and forbids everything."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no str")

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("no attributes")


class UnspeakableExit(BaseException):
    """The same, and no Exception."""

    __str__ = Unspeakable.__str__
    __repr__ = Unspeakable.__repr__
    __setattr__ = Unspeakable.__setattr__


class Closed(Exception):
    """Says nothing of itself, whatever it is asked."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name}")


class Classless(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise RuntimeError("no class")


class ClasslessExit(BaseException):
    __class__ = Classless.__class__  # type: ignore[assignment]


class Contextless(Exception):
    @property
    def __context__(self) -> Any:
        raise SystemExit("no context")

    @property
    def __cause__(self) -> Any:
        raise SystemExit("no cause")

    @property
    def __traceback__(self) -> Any:
        raise SystemExit("no traceback")


class Misled(Exception):
    __cause__ = 5  # type: ignore[assignment]
    __traceback__ = 5  # type: ignore[assignment]


class Memberless(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise RuntimeError("no exceptions")


class _Reticent(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=_Reticent):
    pass


def raise_hostile(kind: str, message: str) -> NoReturn:
    """An error whose own attributes raise."""
    if kind == "Memberless":
        raise Memberless(message, [ValueError()])
    raise {
        "Closed": Closed,
        "Classless": Classless,
        "ClasslessExit": ClasslessExit,
        "Contextless": Contextless,
        "Misled": Misled,
        "Nameless": Nameless,
    }[kind](message)


HOSTILE = (
    "Closed", "Classless", "ClasslessExit", "Contextless", "Misled", "Nameless", "Memberless",
)  # fmt: skip


class Unfriendly:
    """An argument whose `repr` must not be asked for."""

    def __init__(self, kind: type[BaseException] = SystemExit) -> None:
        self.kind = kind

    def __repr__(self) -> NoReturn:
        raise self.kind("no repr of me")


def raise_kind(kind: str) -> NoReturn:
    if kind == "chained":
        try:
            raise CarriesALock
        except CarriesALock as lock:
            raise ValueError("the outer one") from lock
    if kind == "group":
        raise ExceptionGroup("two", [ValueError("a"), WantsTwo(1, "b")])
    if kind == "WantsTwo":
        raise WantsTwo(7, "seven")
    raise {
        "Lies": Lies,
        "LiesWithAClass": LiesWithAClass,
        "ReduceRaises": ReduceRaises,
        "CarriesALock": CarriesALock,
        "Unspeakable": Unspeakable,
        "UnspeakableExit": UnspeakableExit,
    }[kind]


def raise_it(error: BaseException) -> NoReturn:
    raise error


def leave(code: Any) -> NoReturn:
    sys.exit(code)


# Tasks that spoil their worker -------------------------------------------------------------------


def close_descriptors() -> int:
    os.closerange(3, 31)
    return os.getpid()


def close_all_descriptors() -> None:
    os.closerange(3, 65_536)
    time.sleep(60)


def become_another_program() -> None:
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])


def close_standard_streams() -> int:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()
    os.closerange(0, 3)
    return os.getpid()


def set_streams_to_none() -> int:
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return os.getpid()


def change_directory(path: str) -> int:
    os.chdir(path)
    return os.getpid()


def to_a_directory_that_goes(path: str) -> int:
    os.mkdir(path)
    os.chdir(path)
    os.rmdir(path)
    return os.getpid()


def replace_handlers() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return os.getpid()


def block_all_signals() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return os.getpid()


def eat_recursion() -> int:
    sys.setrecursionlimit(150)
    return os.getpid()


def write_into_the_streams(count: int) -> int:
    os.write(1, b"x" * count)
    print("y" * count)
    return os.getpid()


def stop_itself(running: Stage) -> None:
    running.reach(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


def fork_and_return() -> tuple[int, int]:
    """Two processes come back from here."""
    child = os.fork()
    return os.getpid(), child


def fork_and_raise() -> None:
    if os.fork():
        raise ValueError("from the worker")
    raise KeyError("from its child")


def fork_in_reduce() -> Any:
    return ForksWhenPickled()


class ForksWhenPickled:
    def __reduce__(self) -> Any:
        os.fork()
        return ForksWhenPickled, ()


def sleep(seconds: float, running: Stage | None = None) -> str:
    if running is not None:
        running.reach(os.getpid())
    time.sleep(seconds)
    return "slept"


def leave_a_copy(go: Stage, done: Stage) -> None:
    """A child that uses the token of the task that made it, and a shield, when told to."""
    if os.fork() == 0:
        go.hold()
        andon.sleep(0)
        with andon.shield(600):
            done.reach()
            time.sleep(60)


def ask_for_a_stop() -> None:
    andon.current_token().cancel("enough")
    andon.check()


def where() -> str:
    return os.getcwd()
