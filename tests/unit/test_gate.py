"""The gate: what is held back is raised at a clean point, and only on the main thread."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from andon._gate import Gate, gate
from andon._runtime.handlers import Handlers


class Felt(BaseException):
    pass


def feel() -> None:
    raise Felt


def test_what_is_deferred_runs_at_the_outermost_exit() -> None:
    gate = Gate()
    done = []
    with gate:
        with gate:
            gate.deferred = lambda: done.append(gate.depth)
        assert (gate.depth, done) == (1, [])
    assert done == [0]
    with gate:
        pass
    assert done == [0], "it is forgotten once run"


def test_what_it_raises_comes_out_of_the_block() -> None:
    gate = Gate()
    with pytest.raises(Felt) as caught:
        with gate:
            gate.deferred = feel
            raise ValueError
    assert isinstance(caught.value.__context__, ValueError)
    assert (gate.depth, gate.deferred) == (0, None)


def test_an_error_leaves_the_depth_right() -> None:
    gate = Gate()
    with pytest.raises(ValueError):
        with gate, gate:
            raise ValueError
    assert gate.depth == 0


def test_other_threads_pass_through() -> None:
    gate = Gate()
    gate.deferred = feel
    seen = []

    def other() -> None:
        with gate:
            seen.append((gate.depth, gate.on_main()))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [(0, False)]
    assert gate.deferred is feel
    assert gate.on_main()


def forked(act: object) -> int:
    """The status of a forked child that runs `act`."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(act())  # type: ignore[operator]
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_forked_inside_a_block_goes_on_inside_it() -> None:
    gate = Gate()
    with gate:

        def act() -> int:
            gate.after_fork()
            return gate.depth

        assert forked(act) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_by_another_thread_starts_afresh() -> None:
    gate = Gate()
    statuses = []

    def act() -> int:
        gate.after_fork()
        return 10 + gate.depth + gate.on_main()

    with gate:
        thread = threading.Thread(target=lambda: statuses.append(forked(act)))
        thread.start()
        thread.join()
    assert statuses == [11]


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")
def test_a_handler_of_a_real_time_signal_waits_where_it_was_there_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers, felt = Handlers(), list[int]()
    number = int(signal.SIGRTMIN) + 1
    before = signal.signal(number, lambda *_: felt.append(gate.depth))
    try:
        handlers.find()
        monkeypatch.setattr(gate, "shelter", handlers)
        with gate:
            signal.raise_signal(number)
            assert not felt
        assert felt == [0]
        signal.raise_signal(number)
        assert felt == [0, 0]
    finally:
        signal.signal(number, before)


class Meeting(Handlers):
    """A signal comes when all are held back, and the gate is not quite entered."""

    meets = True

    def hold(self) -> None:
        super().hold()
        if self.meets:
            self.meets = False
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_handler_that_enters_the_gate_as_it_is_entered_opens_it_to_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers, felt = Meeting(), list[int]()

    def handle(*_: object) -> None:
        with gate:
            pass
        felt.append(gate.depth)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        handlers.find()
        monkeypatch.setattr(gate, "shelter", handlers)
        with gate:
            assert handlers.any() and not felt
            signal.raise_signal(signal.SIGUSR1)
            assert not felt
        assert felt == [0, 0]
        assert signal.getsignal(signal.SIGUSR1) is handle
    finally:
        signal.signal(signal.SIGUSR1, before)
