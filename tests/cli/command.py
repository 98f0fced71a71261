"""Runs the `andon` command as a user does: in a process of its own, with a bound."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import PATIENCE, run_python

ROOT = Path(__file__).parents[2]
BOUND = 60.0

# Takes the terminal on its standard input as its own (so that Ctrl-C there reaches it), then
# becomes the command.
_OWN_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'andon', *sys.argv[1:]])\n"
)


def environment(**more: str) -> dict[str, str]:
    """Ours, with andon and `tests` to be found from any directory."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [str(ROOT), *(os.path.abspath(entry) for entry in given if entry)]
    # A start-up hook of the tests' environment must not add output of its own.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}


def andon(
    *arguments: str,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = BOUND,
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """Run `andon` with these arguments to its end."""
    return run_python(
        ["-m", "andon", *arguments], cwd=cwd, stdin=stdin, timeout=timeout, env=environment(**env)
    )


@contextmanager
def started(
    *arguments: str, cwd: Path, stdin: Any = subprocess.DEVNULL, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """`andon` with these arguments, running; killed at the end if it still is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "andon", *arguments],
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**env),
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """The command in a pseudo-terminal of its own."""

    def __init__(self, *arguments: str, cwd: Path, **env: str) -> None:
        self._master, slave = pty.openpty()
        self._said: list[bytes] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, *arguments],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm", COLUMNS="100", **env),
            start_new_session=True,
        )
        os.close(slave)
        # Someone has to read, or the command blocks on a terminal that is full.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        os.close(self._master)

    def type(self, text: bytes) -> None:
        """Press keys; b"\\x03" is Ctrl-C."""
        os.write(self._master, text)

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status and all that was shown."""
        status = self.process.wait(BOUND)
        self._reader.join(PATIENCE)
        return status, b"".join(self._said).decode().replace("\r\n", "\n")

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # EIO: the last process that had the terminal is gone
                return
            if not piece:
                return
            self._said.append(piece)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file, sorted by index; each index exactly once."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines.sort(key=lambda line: line["index"])
    assert [line["index"] for line in lines] == list(range(len(lines)))
    return lines
