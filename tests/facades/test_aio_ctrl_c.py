"""Ctrl-C in programs of asyncio (S32): once, twice, on a pool, in a loop without `asyncio.run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support import PATIENCE, wait_gone


class Program:
    """A program, read line by line."""

    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.facades.aio_programs", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def interrupt(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)

    def rest(self) -> list[str]:
        out, _ = self.process.communicate(timeout=3 * PATIENCE)
        assert self.process.returncode == 0, out
        return out.splitlines()


@pytest.mark.parametrize(("name", "kind"), [("own", "parent"), ("on_a_pool", "interrupt")])
def test_S32_the_first_ctrl_c_stops_by_the_ladder(name: str, kind: str) -> None:
    with Program(name) as program:
        worker = program.line().split()[1]
        program.interrupt()
        assert program.rest() == [f"{kind} interrupt", "KeyboardInterrupt True"]
        wait_gone([int(worker)])


def test_S32_the_second_ctrl_c_kills() -> None:
    with Program("twice") as program:
        worker = program.line().split()[1]
        program.interrupt()
        assert program.line() == "stopping"  # and it goes on
        program.interrupt()
        assert program.rest() == ["interrupt kill", "KeyboardInterrupt True"]
        wait_gone([int(worker)])


def test_S32_a_loop_that_is_dropped_leaves_nothing() -> None:
    with Program("bare_loop") as program:
        worker = program.line().split()[1]
        program.interrupt()
        assert program.rest()[0].startswith("KeyboardInterrupt")  # nobody is left to wait for more
        wait_gone([int(worker)])


def test_S32_a_scope_that_outlives_its_run_leaves_no_handler() -> None:
    with Program("left_open") as program:
        assert program.rest() == ["True True", "cancelled", "KeyboardInterrupt True"]
