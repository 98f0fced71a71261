"""A bar on a terminal, and what workers print there meanwhile: neither tears the other."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest

from tests.support import PATIENCE

pytestmark = pytest.mark.linux

ROWS, COLUMNS = 12, 80

PROGRAM = """
import logging, os, subprocess, sys
import andon

def work(n):
    print(f"printed {n:03}")
    os.write(1, f"written {n:03}\\n".encode())
    print(f"shouted {n:03}", file=sys.stderr)
    if n % 10 == 0:
        subprocess.run(["echo", f"child {n:03}"])
    logging.warning("logged %03d", n)
    return n

logging.basicConfig(format="%(message)s")
print("before")
andon.map(work, range(100), workers=3, progress=True, start_method=sys.argv[1])
print("after")
"""


def run_in_a_terminal(
    command: list[str], look: Callable[[pyte.HistoryScreen], None]
) -> pyte.HistoryScreen:
    """Run it in a terminal of its own; `look` at the screen whenever something has come."""
    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=10_000, ratio=0.5)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    for name in ("COLUMNS", "PYTHONUNBUFFERED"):  # a print is one write, newline included
        environment.pop(name, None)
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    try:
        deadline = time.monotonic() + PATIENCE
        while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                stream.feed(os.read(ours, 4096))
            except OSError:  # all have closed it
                break
            look(screen)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return screen


def lines_of(screen: pyte.HistoryScreen) -> list[str]:
    above = ["".join(row[x].data for x in range(COLUMNS)) for row in screen.history.top]
    return [line.rstrip() for line in (*above, *screen.display) if line.strip()]


def test_prints_and_a_bar_do_not_tear_each_other(start_method: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    bottoms: set[str] = set()
    screen = run_in_a_terminal(
        [sys.executable, str(tmp_path / "program.py"), start_method],
        lambda screen: bottoms.add(screen.display[-1].rstrip()),
    )
    *lines, bar, after = lines_of(screen)
    wanted = ["before", *(f"child {n:03}" for n in range(0, 100, 10))]
    for word in ("printed", "written", "shouted", "logged"):
        wanted += [f"{word} {n:03}" for n in range(100)]
    assert sorted(lines) == sorted(wanted)
    assert "100/100" in bar and after == "after"
    assert screen.margins is None
    # While it ran, nothing but the bar stood in the last row.
    assert any("/100" in bottom for bottom in bottoms)
    torn = {b for b in bottoms if b and "/100" not in b and b not in ("before", "after")}
    assert torn - {line for line in lines if "before" in line} == set()


def test_half_a_line_stays_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, andon\n"
        "sys.stdout.write('half a line'); sys.stdout.flush()\n"
        "andon.map(abs, [1], workers=1, progress=True)\n"
        "print('after')\n"
    )
    screen = run_in_a_terminal([sys.executable, str(script)], lambda screen: None)
    half, bar, after = lines_of(screen)
    assert half == "half a line" and "1/1" in bar and after == "after"
