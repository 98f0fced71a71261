"""Objects of `multiprocessing` among the arguments: as its own pool would take them."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator
from multiprocessing import resource_sharer, util
from multiprocessing.connection import Connection
from typing import Any

import pytest

import andon


@pytest.fixture(scope="module", autouse=True)
def folder() -> None:
    """Of the sockets over which `multiprocessing` hands descriptors over; it stays to the end."""
    util.get_temp_dir()  # type: ignore[attr-defined]


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.Pool]:
    with andon.Pool(2, start_method=start_method) as pool:
        yield pool
    resource_sharer.stop(5)  # type: ignore[no-untyped-call]


def answer(connection: Connection[Any, Any], value: object) -> int:
    with connection:
        connection.send(value)
        return connection.fileno()


def test_one_end_of_a_pipe(pool: andon.Pool) -> None:
    for value in ("first", "second"):
        ours, theirs = multiprocessing.Pipe()
        pool.apply(answer, (theirs, value))
        theirs.close()
        assert ours.poll(20) and ours.recv() == value
        with pytest.raises(EOFError):
            ours.recv()
        ours.close()


def say(sock: socket.socket) -> None:
    with sock:
        sock.sendall(b"said")


def test_a_socket(pool: andon.Pool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pool.map(say, [theirs])
        theirs.close()
        assert ours.recv(9) == b"said"


def put(queue: Any, event: Any, value: int) -> None:
    event.wait(20)
    queue.put(value)


def test_proxies_of_a_manager(pool: andon.Pool) -> None:
    with multiprocessing.Manager() as manager:
        queue, event = manager.Queue(), manager.Event()
        result = pool.starmap_async(put, [(queue, event, n) for n in range(4)])
        event.set()
        result.get(20)
        assert sorted(queue.get() for _ in range(4)) == [0, 1, 2, 3]


def test_queues_and_locks_are_no_arguments(pool: andon.Pool) -> None:
    for thing in (multiprocessing.Lock(), multiprocessing.Queue()):
        with pytest.raises(andon.SerializationError, match="inheritance"):
            pool.apply(print, (thing,))
