"""Windows: workers that are children of this process, each in a job object; threads wait for their
pipes (`../threads.py`) and for their ends.

Untested: it has only been type-checked.

The job object is the kill (the whole tree, nothing escapes it) and the lifeline: the kernel ends
it with the last handle to it, which only we have (S20). There is no signal that would interrupt a
worker or have it dump its stacks: a thread in it takes orders from a pipe, and needs the GIL
for that.
"""

from __future__ import annotations

import ctypes
import msvcrt
import os
import subprocess
import sys
import threading
from ctypes import wintypes

assert sys.platform == "win32"

from andon import _wire
from andon._engines.local.interpreter import starting_worker
from andon._engines.local.orders import Orders
from andon._engines.local.threads import Poller
from andon._engines.local.timers import Handler
from andon._threads import start

_KILLED = 0xE00D0009  # the exit status of what we kill: told as that of SIGKILL elsewhere
_SIGKILL = 9
_KILL_ON_JOB_CLOSE = 0x2000
_EXTENDED_LIMITS = 9
_ACCOUNTING = 1

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.CreateJobObjectW.restype = wintypes.HANDLE
_kernel.CreateJobObjectW.argtypes = (wintypes.LPVOID, wintypes.LPCWSTR)
_kernel.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
_kernel.TerminateJobObject.argtypes = (wintypes.HANDLE, wintypes.UINT)
_kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
_kernel.SetInformationJobObject.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.LPVOID,
    wintypes.DWORD,
)
_kernel.QueryInformationJobObject.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.LPVOID,
    wintypes.DWORD,
    wintypes.LPDWORD,
)


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which one flag is used."""

    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", wintypes.DWORD),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", wintypes.DWORD),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", wintypes.DWORD),
        ("SchedulingClass", wintypes.DWORD),
        ("IoCounters", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


class _Accounting(ctypes.Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, of which one number is used."""

    _fields_ = (
        ("Times", ctypes.c_int64 * 4),
        ("TotalPageFaultCount", wintypes.DWORD),
        ("TotalProcesses", wintypes.DWORD),
        ("ActiveProcesses", wintypes.DWORD),
        ("TotalTerminatedProcesses", wintypes.DWORD),
    )


class Job:
    """A job object: a process and whatever it starts. Closing it kills them all."""

    def __init__(self) -> None:
        self._handle: int | None = _kernel.CreateJobObjectW(None, None)
        if not self._handle:
            raise ctypes.WinError(ctypes.get_last_error())
        limits = _Limits(LimitFlags=_KILL_ON_JOB_CLOSE)
        self._check(
            _kernel.SetInformationJobObject(
                self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
            )
        )

    def assign(self, process: int) -> None:
        """Take it in, and with it what it will start."""
        self._check(_kernel.AssignProcessToJobObject(self._handle, process))

    def _check(self, ok: int) -> None:
        if not ok:
            error = ctypes.WinError(ctypes.get_last_error())
            self.close()
            raise error

    def kill(self) -> None:
        """All of them, now."""
        if self._handle is not None:
            _kernel.TerminateJobObject(self._handle, _KILLED)

    def is_empty(self) -> bool:
        """Is nobody left?"""
        told = _Accounting()
        return self._handle is None or bool(
            _kernel.QueryInformationJobObject(
                self._handle, _ACCOUNTING, ctypes.byref(told), ctypes.sizeof(told), None
            )
            and told.ActiveProcesses == 0
        )

    def close(self) -> None:
        """The handle; they die of it."""
        if self._handle is not None:
            _kernel.CloseHandle(self._handle)
            self._handle = None


class Hold:
    """A worker's process, and its job (see `spawner.Child`)."""

    def __init__(self, serial: int, fds: list[int]) -> None:
        self.exitcode: int | None = None
        self._seen: Handler | None = None
        self._job = Job()
        self._orders = Orders()
        try:
            # Its lifeline is the job; in that one's place it gets its orders.
            self._process = _start(serial, [*fds[:2], self._orders.reading_end, *fds[3:]])
            # Before any code of the user's runs there: that is sent later.
            self._job.assign(int(self._process._handle))  # type: ignore[attr-defined]
        except BaseException:
            self.close()
            raise
        finally:
            self._orders.handed_over()
        self.pid = self._process.pid

    # What the spawner asks for ------------------------------------------------------------------

    def started(self, poller: Poller, ended: Handler) -> None:
        """A thread waits for it."""

        def wait() -> None:
            self._process.wait()
            poller.soon(ended)

        start(threading.Thread(target=wait, name="andon-waiter", daemon=True))

    def dead(self) -> None:
        """What it has left in its job goes too."""
        self._job.kill()
        if self._seen is not None:
            self._seen()

    def reap(self) -> bool:
        """Where there is a thread, it has waited for it already."""
        code = self._process.poll()
        self.exitcode = -_SIGKILL if code == _KILLED else code
        return code is not None

    def left(self) -> set[int]:
        """It stands for all: the job does not say who they are."""
        return set() if self._job.is_empty() else {self.pid}

    # What the crew asks for ----------------------------------------------------------------------

    def watch(self, poller: Poller, handler: Handler) -> None:
        """Call `handler` when it is dead."""
        self._seen = handler

    def unwatch(self, poller: Poller) -> None:
        """Not any more."""
        self._seen = None

    def interrupt(self) -> None:
        """Step 2."""
        self._orders.give(_wire.INTERRUPT)

    def ask_for_stack(self) -> None:
        """Have it dump its stacks, if its thread comes to run."""
        self._orders.give(_wire.DUMP_STACKS)

    def kill(self) -> None:
        """Step 3: the whole job."""
        self._job.kill()

    def close(self) -> None:
        """Give up the handles; whoever is left dies of it."""
        self._orders.close()
        self._job.close()


def _start(serial: int, fds: list[int]) -> subprocess.Popen[bytes]:
    """An interpreter that inherits these and no others. As a process group's first it takes no
    Ctrl-C from the console (S32)."""
    handles = [msvcrt.get_osfhandle(fd) if fd >= 0 else -1 for fd in fds]
    inherited = [handle for handle in handles if handle != -1]
    command, environ = starting_worker(), None
    base = getattr(sys, "_base_executable", sys.executable)
    if command[0] == sys.executable and base != sys.executable:
        # A virtual environment's executable only starts the true one, as a process of its own.
        command[0] = base
        environ = {**os.environ, "__PYVENV_LAUNCHER__": sys.executable}
    for handle in inherited:
        os.set_handle_inheritable(handle, True)
    try:
        return subprocess.Popen(
            [*command, str(serial), *map(str, handles)],
            stdin=subprocess.DEVNULL,
            startupinfo=subprocess.STARTUPINFO(lpAttributeList={"handle_list": inherited}),
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
            env=environ,
        )
    finally:
        for handle in inherited:
            os.set_handle_inheritable(handle, False)
