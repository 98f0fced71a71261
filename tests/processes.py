"""The process table, and how a process is known as ours.

A process is ours if it descends from this one, or if it carries our mark. A descendant that has
escaped (double fork, setsid) is no longer below us in the process table, hence two marks that
survive this: an environment variable, which every process that was *executed* below us shows in
/proc/<pid>/environ, and a named memory mapping, which every *forked* one inherits (its environ
still shows what our own process was started with).
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

LINUX = sys.platform == "linux"
MARK_VARIABLE = "ANDON_TEST_MARK"

_mark = ""
_mapping: mmap.mmap | None = None


def set_mark() -> str:
    """Mark this process, and with it all that will descend from it. Idempotent."""
    global _mark, _mapping
    if not _mark:
        _mark = f"andon-test-{os.getpid()}-{secrets.token_hex(4)}"
        # A test run within a test keeps the outer mark beside its own: outer checks find it too.
        outer = os.environ.get(MARK_VARIABLE)
        os.environ[MARK_VARIABLE] = f"{outer} {_mark}" if outer else _mark
        if LINUX:
            fd = os.memfd_create(_mark)
            os.ftruncate(fd, mmap.PAGESIZE)
            _mapping = mmap.mmap(fd, mmap.PAGESIZE)
            os.close(fd)
    return _mark


class Entry(NamedTuple):
    """One process. `started` tells it from another that has its pid later."""

    parent: int
    started: float


def process_table() -> dict[int, Entry]:
    """Every process of this machine, by pid."""
    table = {}
    for pid in psutil.pids():
        try:
            if LINUX:  # as psutil reads it, in a fraction of the time; this runs twice a test
                with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                    stat = file.read(1024).rpartition(b")")[2].split()
                table[pid] = Entry(int(stat[1]), float(stat[19]))
            else:
                process = psutil.Process(pid)
                table[pid] = Entry(process.ppid(), process.create_time())
        except (OSError, psutil.Error):
            pass  # gone
    return table


def below(top: int, table: dict[int, Entry]) -> set[int]:
    """All descendants of a process, whoever of them is whose parent by now."""
    children: dict[int, list[int]] = {}
    for pid, entry in table.items():
        children.setdefault(entry.parent, []).append(pid)
    found: set[int] = set()
    pending = [top]
    while pending:
        more = children.get(pending.pop(), [])
        found.update(more)
        pending += more
    return found


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def carries_mark(pid: int) -> bool:
    """True if this process was forked or executed below the test process. Zombies say nothing."""
    if not (LINUX and _mark):
        return False
    mark = _mark.encode()
    for page in ("environ", "maps"):
        try:
            if mark in Path(f"/proc/{pid}/{page}").read_bytes():
                return True
        except OSError:
            pass  # gone, or another user's
    return False
