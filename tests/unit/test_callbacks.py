"""The thread that runs done callbacks, where it can hardly be had."""

from __future__ import annotations

import threading

import pytest

from andon._runtime.callbacks import CallbackThread

WITHIN = 20.0  # seconds


def test_S47_who_comes_while_it_cannot_be_started_is_run_at_the_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    callbacks = CallbackThread("callbacks")

    def start(thread: threading.Thread) -> None:
        assert callbacks.put(lambda: ran.append("meanwhile"))  # by another, who leaves it to us
        callbacks._queue, queue = type(callbacks._queue)(), callbacks._queue
        late.append(queue)
        raise RuntimeError("can't start new thread")

    late: list[object] = []
    monkeypatch.setattr(threading.Thread, "start", start)
    assert not callbacks.put(lambda: ran.append("first"))
    callbacks._queue = late[0]  # type: ignore[assignment]  # it is put after the last look
    callbacks.close(WITHIN)
    assert ran == ["meanwhile"]
