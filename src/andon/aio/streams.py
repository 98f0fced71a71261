"""Maps under asyncio: results as an async iterator, and inputs that are async iterables."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from andon._cancelled import Cancelled
from andon._runtime.groups import Group
from andon._runtime.streams import Stream
from andon._runtime.wakeup import Wakeup
from andon.aio.lane import Lane
from andon.aio.mailbox import Mailbox, weakly
from andon.errors import GroupClosedError

T_co = TypeVar("T_co", covariant=True)

_AT_A_TIME = 64  # results that are handed out before the loop has its turn
_SOON = 0.005  # seconds that a span waits for its next item


class Bell(Wakeup):
    """A stream's news, for a consumer in the loop: one letter, however often it rings."""

    __slots__ = ("_mailbox", "_rung", "on_ring")

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox
        self._rung = False
        self.on_ring: Callable[[], object] = bool

    def notify(self) -> None:
        """There is news. Any thread."""
        if not self._rung:
            self._rung = True
            self._mailbox.post(self._ring)

    def _ring(self) -> None:
        self._rung = False  # first: what comes from here on rings again
        self.on_ring()


class Results(AsyncIterator[T_co]):
    """The results of a map that is under way; made by `TaskGroup.map` and `imap`.

    `async for` waits for each; being cancelled meanwhile loses none, and stops nothing by itself.
    """

    def __init__(
        self,
        group: Group,
        stream: Stream,
        feed: Feed | None,
        bell: Bell,
        news: Callable[[], None],
        lane: Lane,
        wait: Callable[[asyncio.Future[None]], Awaitable[None]],
    ) -> None:
        self.ready = stream.ready
        self._group = group
        self._stream = stream
        self._feed = feed
        self._lane = lane
        self._news = weakly(news)
        self._wait = wait
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._in_a_row = 0
        bell.on_ring = weakly(self._wake)

    @property
    def ended(self) -> bool:
        """Does nothing in the loop read for it any more?"""
        return self._feed is None or self._feed.ended

    @property
    def exhausted(self) -> bool:
        """Is all input read?"""
        return self._stream.exhausted

    @property
    def started(self) -> bool:
        """Has anybody asked for a result?"""
        return self._stream.started

    def __aiter__(self) -> Results[T_co]:
        return self

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __iter__(self) -> NoReturn:
            """Refuse a plain `for`."""
            raise TypeError("the results of an andon.aio.TaskGroup are iterated by `async for`")

    async def __anext__(self) -> T_co:
        stream = self._stream
        stream.started = True
        if self._in_a_row >= _AT_A_TIME and self._group.reason is None:
            # Results that are there would be taken without the loop ever having its turn.
            self._in_a_row = 0
            await asyncio.sleep(0)
        while not stream.ready():
            self._in_a_row = 0
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            try:
                await self._wait(waiter)
            finally:
                self._waiters.pop(waiter, None)
        self._in_a_row += 1
        try:
            return stream.take_next()  # type: ignore[no-any-return]
        except StopIteration:
            raise StopAsyncIteration from None

    def skip(self) -> bool:
        """Drop the results that are there: nobody will ask for them. True at the end."""
        while self._stream.ready():
            try:
                self._stream.take_next()
            except StopIteration:
                return True
        return False

    def close(self) -> None:
        """Read no more input; does not block."""
        self._stream.stop_reading()

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.stop_reading()

    def _wake(self) -> None:
        if self._stream.hungry:
            self._lane.post(self._stream.send_waiting)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._news()


class Feed:
    """Reads an async iterable in the loop, for a stream's thread: no further than it asks for.

    One asyncio task reads from first to last, since an async generator may hold scopes of asyncio
    (a timeout, a group) that belong to the task which entered them.
    """

    # Invariants:
    #  1. `_items` and `_wanted` are written under `_lock`; `_items` holds no more than was wanted.
    #  2. `_ended` is set last, in the loop: by then all items, and the error, are there.

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        items: AsyncIterable[Any],
        news: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._on_end = weakly(news)
        self._mailbox = mailbox
        self._iterator = aiter(items)
        self._context = copy_context()
        self._lock = threading.Lock()
        self._items: deque[Any] = deque()
        self._wanted = 0
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._news = Wakeup()
        self._more: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Is the task that reads over?"""
        return self._reader is None or self._reader.done()

    # The stream's thread -------------------------------------------------------------------------

    def read(self, count: int) -> tuple[list[Any], bool]:
        """Up to `count` items, as many as come soon after the first. Blocks."""
        with self._lock:
            self._wanted = max(0, count - len(self._items))
        self._mailbox.post(self._go_on)
        self._news.wait(lambda: bool(self._items) or self._ended or self._closed)
        enough = time.monotonic() + _SOON
        self._news.wait(
            lambda: len(self._items) >= count or self._ended or self._closed,
            max(0.0, enough - time.monotonic()),
        )
        with self._lock:
            # Before the items: an end that comes now is told next time.
            ended = self._ended or self._closed
            items = [self._items.popleft() for _ in range(min(count, len(self._items)))]
            ended = ended and not self._items
        if ended and not items and self._error is not None:
            raise self._error
        return items, ended and self._error is None

    def close(self) -> None:
        """Nobody reads any more. Any thread."""
        if not self._closed:
            self._closed = True
            self._news.notify()
            self._mailbox.post(self._end)

    # The loop ------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._closed:
            return
        if self._reader is None:
            self._reader = self._loop.create_task(
                self._read(), name="andon-feed", context=self._context
            )
            self._reader.add_done_callback(lambda _: self._on_end())
        elif self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def _read(self) -> None:
        try:
            while True:  # for `async for`, the iterator would have to be an iterable as well
                try:
                    item = await anext(self._iterator)
                except StopAsyncIteration:
                    break
                with self._lock:
                    self._items.append(item)
                    self._wanted -= 1
                del item
                self._news.notify()
                while self._wanted <= 0 and not self._closed:
                    self._more = self._loop.create_future()
                    await self._more
                if self._closed:
                    break
        except asyncio.CancelledError:
            if not self._closed:
                self._error = RuntimeError("the task that reads a map's input was cancelled")
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._error = error
            raise
        except (Cancelled, GroupClosedError) as stop:
            self._error = stop
        except BaseException as error:  # for the consumer: it is the body's (S46)
            self._error = error
        finally:
            self._iterator = _nothing()
            self._ended = True
            self._news.notify()

    def _end(self) -> None:
        if self._reader is not None:
            self._reader.cancel()


async def in_step(iterables: Iterable[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """Several iterables, async ones among them, as `zip` takes them."""
    sources: list[tuple[bool, Any]] = []
    for each in iterables:
        is_async = isinstance(each, AsyncIterable)
        sources.append((is_async, aiter(each) if is_async else iter(each)))
    while True:
        row = []
        for is_async, source in sources:
            try:
                row.append(await anext(source) if is_async else next(source))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(row)


async def _nothing() -> AsyncIterator[Any]:
    return
    yield
