"""What a test left behind: processes, threads, descriptors, shared memory, temporary files.

`Snapshot.take()` before a test, `wait_for_leftovers(before)` after it. Each check is a function of
its own and is shown to be able to fail in `tests/unit/test_conftest_leaks.py`.
"""

from __future__ import annotations

import gc
import os
import re
import select
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.processes import LINUX, below, carries_mark, group_of, process_table

SHM = Path("/dev/shm")


def close_idle_templates() -> None:
    """End the processes that andon keeps warm on purpose after the last pool closed."""
    template = sys.modules.get("andon._engines.local.template")
    if template is not None:
        template.close_idle()


# Before -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """What there was before the test."""

    processes: frozenset[tuple[int, float]]
    threads: frozenset[threading.Thread]
    native_threads: frozenset[int]
    descriptors: dict[int, str]
    shared_memory: frozenset[str]
    temporary_files: frozenset[str]

    @classmethod
    def take(cls) -> Snapshot:
        return cls(
            processes=frozenset((pid, entry.started) for pid, entry in process_table().items()),
            threads=frozenset(threading.enumerate()),
            native_threads=frozenset(_native_threads()),
            descriptors=_descriptors(),
            shared_memory=frozenset(_shared_memory()),
            temporary_files=frozenset(_temporary_files()),
        )


def _native_threads() -> set[int]:
    return {int(tid) for tid in os.listdir("/proc/self/task")} if LINUX else set()


def _descriptors() -> dict[int, str]:
    found = {}
    if LINUX:
        for name in os.listdir("/proc/self/fd"):
            try:
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                pass  # the listing's own descriptor
    return found


def _shared_memory() -> set[str]:
    return set(os.listdir(SHM)) if SHM.is_dir() else set()


def _temporary_files() -> set[str]:
    top = tempfile.gettempdir()
    return {
        os.path.join(where, name) for where, dirs, files in os.walk(top) for name in dirs + files
    }


# After: one function per check, each a list of what is left -------------------------------------


def left_processes(before: Snapshot) -> list[psutil.Process]:
    """New processes that descend from us, carry our mark, or share a process group with such."""
    table = process_table()
    ours_below = below(os.getpid(), table)
    spared = {os.getpid(), _resource_tracker()[0]}
    new = {
        pid
        for pid, entry in table.items()
        if (pid, entry.started) not in before.processes and pid not in spared
    }
    ours = {pid for pid in new if pid in ours_below or carries_mark(pid)}
    groups = {group_of(pid) for pid in ours} - {None, os.getpgrp()}
    if groups:
        ours |= {pid for pid in new if group_of(pid) in groups}
    left = []
    for pid in sorted(ours):
        try:
            left.append(psutil.Process(pid))
        except psutil.Error:
            pass  # gone by now
    return left


def left_groups(processes: list[psutil.Process]) -> dict[int, list[int]]:
    """The process groups, other than our own, that these processes keep alive."""
    groups: dict[int, list[int]] = {}
    for process in processes:
        group = group_of(process.pid)
        if group is not None and group != os.getpgrp():
            groups.setdefault(group, []).append(process.pid)
    return groups


def left_threads(before: Snapshot) -> list[threading.Thread]:
    """New Python threads that still run."""
    alive = _native_threads()
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before.threads and (not alive or thread.native_id in alive)
    ]


def left_native_threads(before: Snapshot) -> list[int]:
    """New threads that Python does not know of."""
    known = {thread.native_id for thread in threading.enumerate()}
    return sorted(_native_threads() - before.native_threads - known)


def left_descriptors(before: Snapshot) -> list[tuple[int, str]]:
    """New descriptors, or old numbers that now stand for something else."""
    spared = _resource_tracker()[1]
    return sorted(
        (fd, target)
        for fd, target in _descriptors().items()
        if before.descriptors.get(fd) != target and fd != spared
    )


def left_shared_memory(before: Snapshot) -> list[str]:
    """New names in /dev/shm, but for those that an unrelated process holds."""
    new = _shared_memory() - before.shared_memory
    return sorted(name for name in new if not _held_by_others(name))


def left_temporary_files(before: Snapshot) -> list[str]:
    """New files and directories below the temporary directory of this test run."""
    return sorted(_temporary_files() - before.temporary_files)


def _resource_tracker() -> tuple[int | None, int | None]:
    """Process and descriptor that `multiprocessing` keeps for good once a lock of its was made."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    return getattr(tracker, "_pid", None), getattr(tracker, "_fd", None)


def _held_by_others(name: str) -> bool:
    """Does a process that is not ours have it mapped? By number: a semaphore is mapped before it
    has got its name (sem_open), and the maps go on showing the old one."""
    try:
        stat = (SHM / name).stat()
    except OSError:
        return True  # gone
    if stat.st_uid != os.getuid():
        return True
    major, minor = os.major(stat.st_dev), os.minor(stat.st_dev)
    inode = f" {major:02x}:{minor:02x} {stat.st_ino} ".encode()
    table = process_table()
    ours_below = below(os.getpid(), table)
    for pid in table:
        if pid == os.getpid() or pid in ours_below or carries_mark(pid):
            continue
        if re.match(f"(sem\\.loky-|joblib_memmapping_folder_){pid}[-_]", name):
            return True  # as these name what they make
        try:
            if inode in Path(f"/proc/{pid}/maps").read_bytes():
                return True
        except OSError:
            pass
    return False


# All of them, with patience ---------------------------------------------------------------------


@dataclass
class Leftovers:
    """What is left; false if that is nothing. Its text says exactly what."""

    processes: list[psutil.Process] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    native_threads: list[int] = field(default_factory=list)
    descriptors: list[tuple[int, str]] = field(default_factory=list)
    shared_memory: list[str] = field(default_factory=list)
    temporary_files: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, before: Snapshot) -> Leftovers:
        return cls(
            processes=left_processes(before),
            threads=left_threads(before),
            native_threads=left_native_threads(before),
            descriptors=left_descriptors(before),
            shared_memory=left_shared_memory(before),
            temporary_files=left_temporary_files(before),
        )

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def lines(self) -> list[str]:
        lines = [_describe_process(process) for process in self.processes]
        for group, pids in left_groups(self.processes).items():
            lines.append(f"process group {group}, kept alive by {pids}")
        lines += [_describe_thread(thread) for thread in self.threads]
        lines += [f"native thread {tid} ({_thread_name(tid)})" for tid in self.native_threads]
        lines += [f"descriptor {fd} -> {target}" for fd, target in self.descriptors]
        lines += [f"shared memory {SHM / name}" for name in self.shared_memory]
        lines += [f"temporary file {path}" for path in self.temporary_files]
        return lines

    def nap(self, seconds: float) -> None:
        """Wait until something of this ends, at most so long. Reaps nothing: that is what the
        owner of a child must do himself, and it would take the exit status from him."""
        with ExitStack() as stack:
            poll = select.poll()
            watched = 0
            for process in self.processes if LINUX else ():
                try:
                    fd = os.pidfd_open(process.pid)
                except OSError:
                    continue
                stack.callback(os.close, fd)
                if _state(process) != psutil.STATUS_ZOMBIE:  # a zombie's is readable for ever
                    poll.register(fd, select.POLLIN)
                    watched += 1
            if watched:
                poll.poll(seconds * 1000)
            elif self.threads and self.threads[0] is not threading.current_thread():
                self.threads[0].join(seconds)
            else:
                time.sleep(seconds)

    def destroy(self) -> None:
        """Kill the processes that are left, lest they burden the tests that follow."""
        for process in self.processes:
            try:
                process.kill()
            except psutil.Error:
                pass
        psutil.wait_procs(self.processes, timeout=1)


def wait_for_leftovers(before: Snapshot, within: float = 2.0) -> Leftovers:
    """Look until nothing is left, or until `within` seconds are over; what is about to end may."""
    gc.collect()  # what only a cycle holds is not left behind; a warning out of it is heard here
    deadline = time.monotonic() + within
    while True:
        close_idle_templates()  # also that of a pool which has closed just now, in some thread
        left = Leftovers.find(before)
        if not left or time.monotonic() >= deadline:
            return left
        left.nap(0.02)


def _state(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.Error:
        return "gone"


def _describe_process(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            command = " ".join(process.cmdline()) or process.name()
            parent = process.ppid()
    except psutil.Error:
        command, parent = "?", None
    return (
        f"process {process.pid} ({_state(process)}, parent {parent}, "
        f"group {group_of(process.pid)}): {command[:300]}"
    )


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    where = ""
    if frame is not None:
        last = traceback.extract_stack(frame)[-1]
        where = f" in {last.name}, {last.filename}:{last.lineno}"
    return f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}{where}"


def _thread_name(tid: int) -> str:
    try:
        return Path(f"/proc/self/task/{tid}/comm").read_text().strip()
    except OSError:
        return "gone"


# Errors that nobody sees ------------------------------------------------------------------------


@contextmanager
def heard_errors() -> Iterator[list[str]]:
    """Within, collects as text what reaches `threading.excepthook` and `sys.unraisablehook`.

    As text: keeping the objects would keep alive what the test wants to see gone. A forked child
    inherits these hooks; there they print, as the original ones do.
    """
    heard: list[str] = []
    home = os.getpid()

    def unraisable(args: Any) -> None:
        if os.getpid() != home:
            sys.__unraisablehook__(args)
            return
        story = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        what = args.err_msg or "Exception ignored in"
        heard.append(f"unraisable: {what} {args.object!r}\n{''.join(story)}")

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if os.getpid() != home:
            threading.__excepthook__(args)
            return
        story = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        name = args.thread.name if args.thread else "?"
        heard.append(f"error in thread {name!r}\n{''.join(story)}")

    old = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = unraisable, in_thread
    try:
        yield heard
    finally:
        sys.unraisablehook, threading.excepthook = old
