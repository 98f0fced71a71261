"""`map` and `imap`: values in order, the first failure bare (S44, S45, S46)."""

from __future__ import annotations

import gc
import itertools
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

import andon
from tests.facades.tasks import Custom, fail_at, raise_custom, sleep_long, square
from tests.support import Stage, eventually


def test_a_list_in_order(start_method: str) -> None:
    assert andon.map(square, range(100), workers=2, start_method=start_method) == [
        x * x for x in range(100)
    ]


def test_nothing_to_do() -> None:
    assert andon.map(square, [], workers=2) == []
    assert list(andon.imap(square, iter([]), workers=2)) == []


def test_several_iterables_in_step() -> None:
    assert andon.map(pow, [2, 3, 4], itertools.count(1), workers=2) == [2, 9, 64]


def test_S44_the_first_failure_is_raised_bare(start_method: str) -> None:
    with pytest.raises(ValueError, match="bad item 7") as caught:
        andon.map(partial(fail_at, 7), range(1000), workers=2, start_method=start_method)
    notes = "\n".join(caught.value.__notes__)
    assert "task 7: " in notes and "fail_at" in notes
    assert "1 failed" in notes
    text = "".join(traceback.format_exception(caught.value))
    assert "raise ValueError" in text, "the worker's own line is shown"


def test_an_exception_with_arguments_of_its_own() -> None:
    with pytest.raises(andon.AndonError) as caught, andon.Pool(1) as pool:
        pool.apply(raise_custom)
    assert "Custom" in str(caught.value)
    assert Custom(1, 2).a == 1


@pytest.mark.parametrize("size", [50_000, 200])
def test_S45_all_that_is_done_is_handed_out_before_the_failure(
    start_method: str, size: int
) -> None:
    work, items = partial(fail_at, size - 50), range(size)
    with andon.Pool(2, start_method=start_method) as pool:
        for results in (
            andon.imap(work, items, workers=2, start_method=start_method, ordered=False),
            pool.imap_unordered(work, items),
        ):
            got: list[int] = []
            with pytest.raises(ValueError) as caught:
                for result in results:
                    got.append(result)
            stats = caught.value.andon_group.stats  # type: ignore[attr-defined]
            assert len(got) == stats.succeeded
            assert len(set(got)) == len(got) and size - 50 not in got


def test_main_module_values_travel() -> None:
    assert andon.map(lambda x: x + 1, [1, 2], workers=1) == [2, 3]


def test_collect_all_puts_the_error_in_its_place() -> None:
    results = andon.map(
        partial(fail_at, 2), range(4), workers=2, policy=andon.collect_all(), chunksize=2
    )
    assert results[:2] == [0, 1] and results[3] == 3
    assert isinstance(results[2], ValueError)


def test_deadline_is_raised_bare() -> None:
    with pytest.raises(andon.GroupTimeoutError):
        andon.map(sleep_long, [None] * 3, workers=2, deadline=0.3)


def by_imap(pool: Any, items: Iterable[int]) -> Any:
    return andon.imap(square, items, workers=1, deadline=60.0)


def by_pool(pool: Any, items: Iterable[int]) -> Any:
    return pool.imap(square, items)


def by_executor(pool: Any, items: Iterable[int]) -> Any:
    return andon.ProcessPoolExecutor.map(pool, square, items)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("call", [by_imap, by_pool, by_executor])
def test_S30_no_deadline_passes_after_the_last_success(
    call: Callable[[Any, Iterable[int]], Any], lazy: bool
) -> None:
    """However late the results are taken."""
    make = andon.ProcessPoolExecutor if call is by_executor else andon.Pool
    with make(1, deadline=60.0) as pool:
        results = call(pool, iter(range(3)) if lazy else range(3))
        assert next(results) == 0
        group = results._stream._group
        eventually(lambda: group.closed)
        assert group.verdict == "ok"
        assert list(results) == [1, 4]


def test_an_event_stops_the_call(stage: Callable[..., Stage]) -> None:
    running = stage("running")
    event = andon.Event()
    setter = threading.Thread(target=lambda: (running.word(), event.cancel("enough")))
    setter.start()
    with pytest.raises(andon.TaskCancelledError, match="enough") as caught:
        andon.map(sleep_long, [running] * 3, workers=1, token=event)
    setter.join()
    assert caught.value.reason is not None and caught.value.reason.kind == "cancel"


@pytest.mark.parametrize("ordered", [True, False])
def test_imap_of_an_endless_input_ends_with_the_loop(start_method: str, ordered: bool) -> None:
    read = itertools.count()
    got = []
    for r in andon.imap(square, read, workers=2, ordered=ordered, start_method=start_method):
        got.append(r)
        if len(got) == 50:
            break
    if ordered:
        assert got == [x * x for x in range(50)]
    assert next(read) < 100_000


def test_S46_the_front_is_handed_out_then_the_failure() -> None:
    got = []
    with pytest.raises(ValueError, match="bad item 30"):
        for r in andon.imap(partial(fail_at, 30), itertools.count(), workers=2):
            got.append(r)
    assert got == list(range(len(got))) and len(got) <= 30


def test_imap_dropped_unread_leaves_nothing() -> None:
    results = andon.imap(square, range(10), workers=1)
    del results
    gc.collect()


def test_a_result_does_not_wait_for_the_next_item() -> None:
    """A stream may be a conversation: the next item can depend on the last result."""
    answered = threading.Event()

    def questions() -> Iterator[int]:
        yield 3
        assert answered.wait(20), "the first result never came"
        yield 4

    results = andon.imap(square, questions(), workers=1)
    assert next(results) == 9
    answered.set()
    assert list(results) == [16]


class _CannotBeUnpickled:
    def __reduce__(self) -> tuple[object, ...]:
        return _raise, ("no way",)

    def __call__(self, x: int) -> int:
        return x


def _raise(why: str) -> None:
    raise ValueError(why)


def test_S44_the_counts_add_up_where_the_function_cannot_be_unpickled() -> None:
    with pytest.raises(andon.SerializationError) as caught:
        andon.map(_CannotBeUnpickled(), range(5), workers=1, chunksize=1)
    (counts,) = [note for note in caught.value.__notes__ if "never started" in note]
    # How many had been read when the line stopped differs.
    assert re.fullmatch("0 done, 1 failed, 0 stopped, [0-4] never started", counts)


@pytest.mark.parametrize("kind", ["map", "imap"])
def test_an_error_of_the_input_says_what_became_of_the_tasks(start_method: str, kind: str) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        if kind == "map":
            andon.map(abs, items(), start_method=start_method)
        else:
            list(andon.imap(abs, items(), start_method=start_method))
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"\d done, 0 failed, \d stopped, \d never started", note)


def test_S14_S45_results_that_nobody_took_in_the_body_are_outcomes() -> None:
    with andon.TaskGroup(workers=2) as tg:
        results = tg.map(square, [1, 2, 3])
    with pytest.raises(andon.GroupClosedError, match="in its `outcomes`"):
        next(results)
    assert [o.value for o in tg.outcomes] == [1, 4, 9]


@pytest.mark.parametrize("kind", [list, iter])
def test_S14_input_that_was_not_read_in_the_body_is_told_of(
    kind: Callable[[range], Iterable[int]],
) -> None:
    with andon.TaskGroup(workers=2) as tg:
        results = tg.map(square, kind(range(1_000_000)))
        assert next(results) == 0
    taken = [0]
    with pytest.raises(andon.GroupClosedError, match="take the results in its body"):
        taken.extend(results)
    assert taken == [o.value for o in tg.outcomes] and len(taken) < 1_000_000


def test_S14_the_rest_of_a_map_after_a_group_that_failed() -> None:
    with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=2) as tg:
        results = tg.map(partial(fail_at, 3), range(10))
    with pytest.raises(andon.GroupClosedError, match="in its `outcomes`"):
        list(results)


class Box:
    def __init__(self) -> None:
        self.value = 0


def value_of(item: Any) -> int:
    if isinstance(item, Box):
        return item.value
    if isinstance(item, dict):
        return int(item["value"])
    while isinstance(item, list | tuple):
        item = item[0]
    return int.from_bytes(item, "little") if isinstance(item, bytearray) else int(item)


def the_same_one(kind: str) -> Iterator[Any]:
    """Changed each time: as many a reader of records hands them out."""
    box, one, large = Box(), [0], bytearray(200_000)
    for number in range(3000 if kind != "large" else 100):
        box.value = one[0] = number
        large[:4] = number.to_bytes(4, "little")
        yield {
            "object": box,
            "list": one,
            "dict": {"value": number},
            "nested": (one, [one]),
            "tuple": (number, "text"),
            "large": large,
        }[kind]


@pytest.mark.parametrize("kind", ["object", "list", "dict", "nested", "tuple", "large"])
@pytest.mark.parametrize("chunksize", [None, 1])
def test_an_input_may_hand_out_the_same_object_again(kind: str, chunksize: int | None) -> None:
    with andon.Pool(2) as pool:
        options = {} if chunksize is None else {"chunksize": chunksize}
        found = list(pool.imap(value_of, the_same_one(kind), **options))
        assert found == list(range(len(found))) and len(found) >= 100
        with andon.TaskGroup(pool=pool) as tg:
            assert list(tg.map(value_of, the_same_one(kind), **options)) == found


def test_what_was_read_is_shown_as_it_was() -> None:
    def fail(item: Any) -> None:
        if item.value == 2500:
            raise ValueError("this one")

    with pytest.raises(ValueError, match="this one") as caught:
        list(andon.imap(fail, the_same_one("object"), workers=2))
    assert re.search(r"fail\(<.*Box object at", "".join(caught.value.__notes__))


def test_an_item_that_cannot_be_unpacked_is_shown() -> None:
    with andon.Pool(1, engine="inline") as pool, pytest.raises(TypeError) as caught:
        pool.starmap(square, [5])
    assert caught.value.__notes__[0] == "task 0: square(*5)"
