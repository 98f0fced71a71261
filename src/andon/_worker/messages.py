"""Messages between the parent and a template: marshalled tuples, with descriptors beside them.

Sockets are of SOCK_SEQPACKET, so a message comes whole or not at all. Only on Linux.
"""

from __future__ import annotations

import errno
import marshal
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections import deque
    from typing import Any
else:  # the template loads this, and as little as it can (see template.py)
    import _socket as socket
    from _collections import deque

assert sys.platform == "linux"

SOL_PASS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
MAX_FDS = 253  # SCM_MAX_FD of the kernel


def send(sock: socket.socket, data: bytes, fds: tuple[int, ...] = ()) -> None:
    """One message with descriptors."""
    aux = [(*SOL_PASS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([data], aux, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors (close-on-exec); empty at the end."""
    size = struct.calcsize("i")
    data, aux, _, _ = sock.recvmsg(
        65536, socket.CMSG_SPACE(MAX_FDS * size), socket.MSG_CMSG_CLOEXEC
    )
    fds: list[int] = []
    for level, kind, raw in aux:
        if (level, kind) == SOL_PASS:
            fds += struct.unpack_from(f"{len(raw) // size}i", raw)
    return data, fds


class Peer:
    """The template's end of one connection: an engine of the parent is at the other. Never blocks;
    what there is no room for waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.out: deque[tuple[bytes, int | None]] = deque()
        self.waits = False  # for room to write
        self.open = True

    def say(self, message: tuple[Any, ...], fd: int | None = None) -> None:
        """Queue a message, with a copy of the descriptor; `flush` sends it. Raises OSError where
        there can be no copy."""
        self.out.append((marshal.dumps(message), None if fd is None else os.dup(fd)))

    def flush(self) -> bool:
        """Send what there is room for. False: nobody is there any more."""
        while self.out:
            data, fd = self.out[0]
            try:
                send(self.sock, data, () if fd is None else (fd,))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                if exc.errno == errno.ETOOMANYREFS:
                    break
                return False
            self.out.popleft()
            if fd is not None:
                os.close(fd)
        self.waits = bool(self.out)
        return True

    def close(self) -> None:
        """For good, with the descriptors that were to be sent."""
        self.open = False
        for _, fd in self.out:
            if fd is not None:
                os.close(fd)
        self.out.clear()
        self.sock.close()
