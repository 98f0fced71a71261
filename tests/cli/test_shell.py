"""A shell command as a task: its item, its end, and what it leaves behind (nothing)."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil
import pytest

from andon._gate import gate
from andon.cli.command import ShellCommand, user_shell
from andon.cli.shell import CommandError
from tests.support import Stage, eventually, wait_gone


class Interrupt(BaseException):
    """Stands for andon's own `Cancelled`."""


def interrupt() -> None:
    raise Interrupt


@contextmanager
def interrupted_on_sigusr1() -> Iterator[None]:
    def handler(number: int, frame: FrameType | None) -> None:
        # As in a worker: never into the library's own critical sections (S17).
        if gate.depth:
            gate.deferred = interrupt
        else:
            interrupt()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def sh(template: str) -> ShellCommand:
    return ShellCommand(template, "/bin/sh")


@pytest.mark.parametrize("item", ["plain", "two words", "it's", "$(touch x)", "a;b", "", "-x", "ä"])
def test_the_item_reaches_the_command_as_it_is(item: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sh(f"printf '%s|' {{}} {{}} > '{out}'")(item)
    assert out.read_text() == f"{item}|{item}|"
    sh(f"> '{out}' printf %s")(item)
    assert out.read_text() == item


def test_a_command_that_fails_tells_its_status_and_last_words(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(CommandError) as caught:
        sh("for n in $(seq 30); do echo line $n >&2; done; exit 3 #")("x")
    error = caught.value
    assert error.status == 3
    assert error.tail.splitlines() == [f"line {n}" for n in range(21, 31)]
    assert str(error).startswith("exit status 3: for n in")
    # All of it was passed on, as it came.
    assert capfd.readouterr().err.splitlines() == [f"line {n}" for n in range(1, 31)]
    same = pickle.loads(pickle.dumps(error))
    assert (same.command, same.status, same.tail) == (error.command, error.status, error.tail)


def test_a_command_that_a_signal_ends() -> None:
    with pytest.raises(CommandError, match="killed by SIGSEGV"):
        sh("kill -SEGV $$ #")("x")


def test_standard_output_is_ours_and_standard_input_empty(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sh("cat; echo")("hello")
    assert capfd.readouterr().out == "hello\n"


def test_it_does_not_wait_for_a_background_child_and_leaves_none(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    sh(f"sleep 60 & echo $! > {pid_file} #")("x")
    assert time.monotonic() - began < 10
    wait_gone([int(pid_file.read_text())])


def test_a_command_that_closes_its_standard_error_is_waited_for(tmp_path: Path) -> None:
    cpu = time.process_time()
    sh(f"exec 2>&-; sleep 0.3; touch {tmp_path}/done #")("x")
    assert (tmp_path / "done").exists()
    assert time.process_time() - cpu < 0.2, "it was waited for in a busy loop"


def test_much_standard_error_does_not_block(capfd: pytest.CaptureFixture[str]) -> None:
    sh("head -c 3000000 /dev/zero >&2 #")("x")
    assert len(capfd.readouterr().err) == 3_000_000


def test_sigint_is_not_ignored_in_the_command() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(CommandError, match="killed by SIGINT"):
            sh("kill -INT $$; exit 0 #")("x")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_lets_the_whole_command_clean_up(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    # The shell itself dies of SIGTERM at once; the program that it called takes its time.
    me, done = os.getpid(), tmp_path / "cleaned"
    inner = tmp_path / "inner.sh"
    inner.write_text(
        f"trap 'sleep 0.3; touch {done}; exit 0' TERM\n"
        f"kill -USR1 {me}\nwhile :; do sleep 0.05; done\n"
    )
    with interrupted_on_sigusr1(), pytest.raises(Interrupt):
        sh(f"/bin/sh {inner}; true #")("x")
    assert done.exists()


def test_an_interrupt_reaches_a_stopped_command() -> None:
    me = os.getpid()
    with interrupted_on_sigusr1(), pytest.raises(Interrupt):
        sh(f"kill -USR1 {me}; kill -STOP $$ #")("x")


def test_an_interrupt_ends_background_children_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with interrupted_on_sigusr1(), pytest.raises(Interrupt):
        sh(f"sleep 60 & echo $! > {pid_file}; kill -USR1 {os.getpid()}; wait #")("x")
    wait_gone([int(pid_file.read_text())])


def test_no_zombie_is_left() -> None:
    before = set(psutil.Process().children())  # a template that other tests have warmed
    sh("true")("x")
    assert eventually(lambda: before.issuperset(psutil.Process().children()))


@pytest.mark.parametrize(
    ("shell", "used"),
    [
        ("/bin/sh", "/bin/sh"),
        ("", "/bin/sh"),
        ("/usr/sbin/nologin", "/bin/sh"),
        ("/no/such/shell", "/bin/sh"),
        ("sh", "/bin/sh"),
    ],
)
def test_the_users_shell(shell: str, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", shell)
    assert user_shell() == used


@pytest.mark.parametrize("name", ["fish", "csh", "tcsh", "nu", "elvish", "python3", "bash", "zsh"])
def test_only_a_shell_that_quotes_as_we_do_is_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To another one, `it's $(this)` is a command, or no word at all."""
    shell = tmp_path / name
    shell.symlink_to("/bin/sh")
    monkeypatch.setenv("SHELL", str(shell))
    assert user_shell() == (str(shell) if name in ("bash", "zsh") else "/bin/sh")
