"""The board: words that never go back, rows with one writer a field, a bell that wakes all."""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from andon import _board
from andon._board import (
    KIND_CANCEL,
    KIND_FAILURE,
    PHASES,
    ROWS,
    WORDS,
    Board,
    Pulled,
    bell,
    registry,
)
from andon._board.row import FIELDS, TEXT_BYTES
from andon.outcome import ReasonKind
from tests.support import PATIENCE, eventually


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create()
    yield made
    made.close()


# Words ------------------------------------------------------------------------------------------


def test_codes_are_in_the_order_of_the_reasons() -> None:
    codes = [getattr(_board, f"KIND_{kind.name}") for kind in ReasonKind]
    assert codes == list(range(1, len(ReasonKind) + 1))


def test_a_pull_stops_and_the_first_one_stays(board: Board) -> None:
    slot, clear = board.allot_word()
    assert board.read(slot, clear) is None
    assert board.pull(slot, clear, KIND_FAILURE, board.row(7), "it")
    assert not board.pull(slot, clear, KIND_CANCEL)
    assert board.read(slot, clear) == (KIND_FAILURE, 7, "it")
    other, clear = board.allot_word()
    assert other != slot and board.read(other, clear) is None


def test_a_reused_slot_reads_as_stopped_for_those_before(board: Board) -> None:
    slot, clear = board.allot_word()
    board.free_word(slot)
    assert board.read(slot, clear) is None, "a freed word keeps its meaning while it can"
    used = [board.allot_word() for _ in range(WORDS)]
    again, fresh = used[-1]
    assert (again, fresh) == (slot, clear + (1 << 32))
    assert not board.is_clear(slot, clear)
    assert board.read(slot, clear) == (0, 0, "")
    assert not board.pull(slot, clear, KIND_CANCEL)
    assert board.read(slot, fresh) is None
    with pytest.raises(RuntimeError, match="in use"):
        board.allot_word()


def test_a_message_belongs_to_its_word(board: Board) -> None:
    one, two = board.allot_word(), board.allot_word()
    board.pull(*one, KIND_CANCEL, None, "one")
    assert board.read(*one) == (KIND_CANCEL, 0, "one")
    board.pull(*two, KIND_CANCEL, None, "two")
    assert board.read(*two) == (KIND_CANCEL, 0, "two")
    assert board.read(*one) == (KIND_CANCEL, 0, "one")
    board.free_word(one[0])
    three = board.allot_word()
    assert board.read(*one) == (KIND_CANCEL, 0, "one"), "it keeps its meaning while it can"
    board.pull(*three, KIND_CANCEL, None, "three")
    assert board.read(*one) == (KIND_CANCEL, 0, ""), "overwritten: none is better than another's"
    assert board.read(*two) == (KIND_CANCEL, 0, "two")
    assert board.read(*three) == (KIND_CANCEL, 0, "three")


def test_S8_each_word_keeps_its_reason(board: Board) -> None:
    """Whoever has pulled it, and whatever else he pulls."""
    words = [board.allot_word() for _ in range(1200)]
    row = board.allot_row()
    for i, word in enumerate(words):
        assert board.pull(*word, KIND_CANCEL, board.row(row) if i % 2 else None, f"reason {i}")
    board.free_row(row)
    while board.allot_row() != row:  # its next worker begins with none
        pass
    for i, word in enumerate(words):
        assert board.read(*word) == (KIND_CANCEL, row if i % 2 else 0, f"reason {i}")


def test_S8_a_reason_is_laid_by_only_where_it_was_the_first(board: Board) -> None:
    """Of two that pull at the same moment."""
    word, another = board.allot_word(), board.allot_word()
    mine, yours = board.allot_row(), board.allot_row()
    board.row(mine).write_cord(*word, "mine", mine)
    assert board.pull(*word, KIND_CANCEL, board.row(yours), "yours")
    assert board.pull(*another, KIND_CANCEL, board.row(mine), "another")
    assert board.pull(*board.allot_word(), KIND_CANCEL, board.row(yours), "a third")
    assert board.read(*word) == (KIND_CANCEL, yours, "yours")
    assert board.read(*another) == (KIND_CANCEL, mine, "another")


def test_S8_a_note_is_not_taken_from_the_word_that_has_it_now(board: Board) -> None:
    """By a worker who lays by what it has said of a word that is in use no more."""
    word, mine = board.allot_word(), board.allot_row()
    assert board.pull(*word, KIND_CANCEL, board.row(mine), "of the first")
    board.free_word(word[0])
    next_one = board.allot_word()  # has its note
    assert board.pull(*next_one, KIND_CANCEL, None, "of the next")
    assert board.pull(*board.allot_word(), KIND_CANCEL, board.row(mine), "of a third")
    assert board.read(*next_one) == (KIND_CANCEL, 0, "of the next")
    assert board.read(*word) == (KIND_CANCEL, mine, ""), "none is better than another's"


def test_S11_a_word_can_be_pulled_before_it_is_said_why(board: Board) -> None:
    word, another, mine = board.allot_word(), board.allot_word(), board.allot_row()
    assert board.pull(*another, KIND_CANCEL, board.row(mine), "another")
    assert board.pull_first(*word, KIND_FAILURE, board.row(mine))
    assert not board.is_clear(*word)
    assert not board.pull_first(*word, KIND_FAILURE, board.row(mine))
    assert board.puller(*word) == (KIND_FAILURE, mine)
    assert board.read(*word, wait=False) is None
    found: list[Pulled | None] = []
    asked = threading.Event()

    def read() -> None:
        asked.set()
        while not found or found[-1] == (KIND_FAILURE, mine, ""):  # it waits no longer than that
            found.append(board.read(*word))

    reader = threading.Thread(target=read)
    reader.start()
    assert asked.wait(PATIENCE)
    board.explain(*word, board.row(mine), "why")
    reader.join(PATIENCE)
    assert found[-1] == (KIND_FAILURE, mine, "why")
    assert board.read(*word, wait=False) == (KIND_FAILURE, mine, "why")
    assert board.read(*another) == (KIND_CANCEL, mine, "another")


def test_S11_who_sleeps_is_woken_once_it_has_been_said_why(board: Board) -> None:
    word, mine = board.allot_word(), board.allot_row()
    looks: list[bool] = []

    def said() -> bool:
        looks.append(board.read(*word, wait=False) is not None)
        return looks[-1]

    sleeper = threading.Thread(target=board.wait, args=(said, 2 * PATIENCE))
    sleeper.start()
    eventually(lambda: len(looks) >= 2)  # one more look behind its registration
    assert board.pull_first(*word, KIND_FAILURE, board.row(mine))
    board.explain(*word, board.row(mine), "why")
    sleeper.join(PATIENCE)
    assert looks[-1] and not sleeper.is_alive()


def test_S8_a_message_is_its_own_pullers(board: Board) -> None:
    """Of two that pull at the same moment: one with a note, and one that is yet to say why."""
    word, mine = board.allot_word(), board.allot_row()
    slot, clear = word
    assert board.pull(*word, KIND_CANCEL, None, "of the parent")
    board.words[slot] = clear  # the worker has looked before that
    assert board.pull_first(*word, KIND_FAILURE, board.row(mine))
    assert board.read(*word, wait=False) is None
    board.explain(*word, board.row(mine), "of the worker")
    assert board.read(*word) == (KIND_FAILURE, mine, "of the worker")


def test_a_stale_token_says_nothing(board: Board) -> None:
    word = board.allot_word()
    assert board.pull(*word, KIND_CANCEL, None, "old words")
    board.words[word[0]] = word[1] + (1 << 32)  # its next user's
    assert board.read(*word) == (0, 0, "")


def test_S8_where_there_are_fewer_notes_than_words_the_last_that_says_anything_has_it(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.setattr(_board.board, "NOTES", 2)
    words = [board.allot_word() for _ in range(4)]
    for at in (0, 1):
        assert board.pull(*words[at], KIND_CANCEL, None, f"reason {at}")
    assert [board.read(*word) for word in words[:2]] == [
        (KIND_CANCEL, 0, "reason 0"),
        (KIND_CANCEL, 0, "reason 1"),
    ]
    assert board.pull(*words[2], KIND_CANCEL, None, "reason 2")
    assert board.read(*words[2]) == (KIND_CANCEL, 0, "reason 2")
    assert board.read(*words[0]) == (KIND_CANCEL, 0, "")


def test_S21_whoever_asks_why_does_not_wait_for_ever(board: Board) -> None:
    """For one that has died before it could say so."""
    word, mine = board.allot_word(), board.allot_row()
    assert board.pull_first(*word, KIND_FAILURE, board.row(mine))
    assert board.read(*word) == (KIND_FAILURE, mine, "")
    board.free_row(mine)
    while board.allot_row() != mine:
        pass
    assert board.read(*word) == (KIND_FAILURE, mine, "")


@pytest.mark.parametrize("text", ["x" * 5000, "ö" * 5000, "€" * 5000, "\udcff bad", ""])
def test_long_and_odd_messages(board: Board, text: str) -> None:
    word = board.allot_word()
    board.pull(*word, KIND_CANCEL, board.row(3), text)
    pulled = board.read(*word)
    assert pulled is not None
    message = pulled.message
    assert len(message.encode()) <= TEXT_BYTES
    if len(text) > TEXT_BYTES:
        assert message.endswith("…") and text.startswith(message[:-1]) and len(message) > 200


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists descriptors")
@pytest.mark.parametrize("step", ["ftruncate", "make_bell", "mmap"])
def test_S20_a_board_that_cannot_be_hung_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "as where descriptors run out")

    owner = {"ftruncate": os, "make_bell": _board.board, "mmap": mmap}[step]
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(OSError, match="run out"):
            Board.create()
    assert os.listdir("/proc/self/fd") == before


# Rows -------------------------------------------------------------------------------------------


def test_rows_are_allotted_from_one_and_wiped(board: Board) -> None:
    assert board.allot_row() == 1
    row = board.row(1)
    row.cells[:] = memoryview(bytes([1] * 8 * FIELDS)).cast("Q")
    board.free_row(1)
    while (number := board.allot_row()) != 1:
        assert number < ROWS
    assert (row.attempt, row.phase_name, row.started_at, row.used) == (0, "idle", None, False)
    with pytest.raises(RuntimeError, match="workers are in use"):
        board.allot_row()


def test_orders_only_harden(board: Board) -> None:
    row = board.row(board.allot_row())
    seen = []
    for attempt, level in ((5, 1), (5, 2), (5, 1), (6, 1)):
        row.order(attempt, level)
        seen.append((row.order_attempt, row.order_level))
    assert seen == [(5, 1), (5, 2), (5, 2), (6, 1)]


def test_a_nudge_is_no_pull_and_takes_none_away(board: Board) -> None:
    slot, clear = board.allot_word()
    at = board.quick_index(slot)
    seen = [board.quick[at]]
    for _ in range(2):
        board.nudge(slot)
        seen.append(board.quick[at])
        assert board.is_clear(slot, clear) and board.read(slot, clear) is None
    assert len(set(seen)) == 3
    assert board.pull(slot, clear, KIND_CANCEL, board.row(7), "why")
    board.nudge(slot)
    assert not board.is_clear(slot, clear) and not board.pull(slot, clear, KIND_FAILURE)
    assert board.read(slot, clear) == (KIND_CANCEL, 7, "why")
    board.free_word(slot)
    again, fresh = [board.allot_word() for _ in range(WORDS)][-1]
    assert again == slot and board.quick[at] == 0 and board.is_clear(slot, fresh)


def test_phases_have_names(board: Board) -> None:
    row = board.row(1)
    row.cells[1] = _board.SENDING
    assert row.phase_name == PHASES[_board.SENDING] == "sending"
    row.cells[1] = 99
    assert row.phase_name == "phase 99"


# The bell ---------------------------------------------------------------------------------------


def test_wait_looks_before_it_sleeps(board: Board) -> None:
    assert board.wait(lambda: True, 0)
    assert not board.wait(lambda: False, 0)


def test_wait_is_bounded(board: Board) -> None:
    board.ring()  # an old edge is none
    start = time.monotonic()
    assert not board.wait(lambda: False, 0.05)
    assert time.monotonic() - start >= 0.05


@pytest.mark.parametrize("deaf", [False, True])
def test_one_pull_wakes_everyone(board: Board, deaf: bool) -> None:
    """Also where descriptors have run out, or a task has closed the bell: then by looking."""
    if deaf:
        os.close(board.bell_fd)
        board.bell_fd = -1
    slot, clear = board.allot_word()
    looked = threading.Semaphore(0)
    woken = []

    def stopped() -> bool:
        looked.release()
        return not board.is_clear(slot, clear)

    threads = [
        threading.Thread(target=lambda: woken.append(board.wait(stopped, PATIENCE)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for _ in range(6):
        looked.acquire(timeout=PATIENCE)
    board.pull(slot, clear, KIND_CANCEL)
    for thread in threads:
        thread.join(PATIENCE)
    assert woken == [True] * 3


def test_wait_hears_several_boards(board: Board) -> None:
    other = Board.create()
    try:
        rung = threading.Event()
        looked = threading.Event()

        def stopped() -> bool:
            looked.set()
            return rung.is_set()

        def ring() -> None:
            looked.wait(PATIENCE)
            rung.set()
            other.ring()

        thread = threading.Thread(target=ring)
        thread.start()
        assert _board.wait_any([board, other], stopped, PATIENCE)
        thread.join()
    finally:
        other.close()


def test_a_full_bell_still_rings(board: Board) -> None:
    os.eventfd_write(board.bell_fd, 2**64 - 2)
    board.ring()
    assert os.eventfd_read(board.bell_fd) == 1


def test_a_ring_never_fails() -> None:
    bell.ring(-1)
    bell.ring(999_999)


# Who reads what ---------------------------------------------------------------------------------


def child_status(act: object) -> int:
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            os._exit(int(act()))  # type: ignore[operator]
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_joined_board_is_the_same_board(board: Board) -> None:
    joined = Board.join(board.ident, os.dup(board.mem_fd), os.dup(board.bell_fd))
    try:
        word = board.allot_word()
        assert joined.pull(*word, KIND_CANCEL, None, "no row of its own")
        assert board.read(*word) == (KIND_CANCEL, 0, "no row of its own")
        assert (board.owned, joined.owned) == (True, False)
    finally:
        joined.close()


def test_a_forked_child_reads_what_it_inherited_and_hangs_its_own() -> None:
    mine = registry.own_board()
    word = mine.allot_word()

    def act() -> bool:
        inherited = registry.find(mine.ident)
        own = registry.own_board()
        return (
            inherited is mine
            and own is not mine
            and registry.joined() == [own, mine]
            and mine.pull(*word, KIND_CANCEL)
        )

    assert child_status(act) == 1
    assert mine.read(*word) is not None
    assert registry.own_board() is mine


def test_a_worker_adopts_boards_in_order_and_keeps_their_objects() -> None:
    mine = registry.own_board()
    other = Board.create()

    def act() -> bool:
        made = registry.adopt(
            [
                (other.ident, os.dup(other.mem_fd), os.dup(other.bell_fd)),
                (mine.ident, os.dup(mine.mem_fd), os.dup(mine.bell_fd)),
            ]
        )
        return (
            [b.ident for b in made] == [other.ident, mine.ident]
            and made[1] is mine
            and made[0] is not other
            and registry.joined() == made
            and registry.own_board() not in made
        )

    try:
        assert child_status(act) == 1
    finally:
        other.close()


def test_own_board_is_one_for_all_threads() -> None:
    def act() -> bool:
        found = []
        start = threading.Barrier(8)

        def ask() -> None:
            start.wait()
            found.append(registry.own_board())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(set(map(id, found))) == 1

    assert child_status(act) == 1
