"""A scope in an event loop: how it is opened, stopped and left while the loop runs on.

    loop's thread    calls ──▶ the runtime's lock ─▶ a worker's pipe
                     Mailbox ◀── outcomes, the stop, the end ── driver thread
    Lane threads     what takes long, on demand: opening and closing workers, pickling what is
                     not plainly small, stopping thousands of tasks

Invariants
 1. Nothing in the loop's thread waits for a process, a thread or a pickle of unknown size; but
    `submit` pickles there, and says so, `fork` forks there, and the pickler is imported there.
 2. Once the body is left, every wait ends only with what it waits for: a CancelledError that comes
    meanwhile is noted, stops the group, and leaves at the end.
 3. The body and the siblings are cancelled after those who await the failed task have been handed
    its error: their step of the loop comes first (stopping.py).
 4. Where the body was closed (`_gone`), the task that ran it is not touched any more; what siblings
    raise from then on goes to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from contextvars import Token as Reset
from functools import partial
from typing import Any

from andon._cancelled import Cancelled
from andon._runtime.interrupts import bridge
from andon._runtime.options import start_method
from andon._runtime.scope import Scope
from andon._runtime.unread import warn_unread
from andon.aio.futures import Future
from andon.aio.kept import Keeper
from andon.aio.lane import Lane
from andon.aio.mailbox import Mailbox, weakly
from andon.aio.members import Members
from andon.aio.sending import Sender
from andon.aio.sigint import stand_in
from andon.aio.stopping import Stopping
from andon.errors import TaskCancelledError
from andon.outcome import ReasonKind

_innermost: ContextVar[LoopScope | None] = ContextVar("andon_aio", default=None)


class LoopScope(Stopping):
    """What `andon.aio.TaskGroup` is under its public methods."""

    _sender: Sender  # with a lane apart: a pickle that hangs must not hold up a stop

    # Entering ------------------------------------------------------------------------------------

    async def _enter(self) -> None:
        self._check_unused()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an andon.aio.TaskGroup is entered in an asyncio task")
        self._loop = task.get_loop()
        self._mailbox = Mailbox(self._loop, weakly(self._leave_behind))
        self._members = Members(self._loop, task)
        self._lane = Lane(f"{self.name}-aio")
        self._kept = Keeper(self._loop)
        self._prepare(outer=_innermost.get())
        self._reset: Reset[LoopScope | None] | None = None
        # A Ctrl-C waits until we are through with what must not be left half-way, whether it is
        # Python's own handler that takes it, or asyncio's.
        self._held = bridge.hold()
        self._stands_in = stand_in.hold()
        try:
            scope = await self._open_off_loop()
        except BaseException:
            self._release()
            raise
        self._sender = Sender(self._loop, scope.group, self.name)
        scope.group.on_stopping.append(weakly(self._on_change))
        scope.bind()
        self._reset = _innermost.set(self)
        self._on_change()  # it may be stopping from the start

    async def _open_off_loop(self) -> Scope:
        how = {"lexical": False, "bridged": False}
        if self._pool is not None or self._forks():
            return self._open(**how)  # quick; or a fork, for which no other thread may be at work
        failed: list[BaseException] = []

        def open_it() -> None:
            try:
                self._open(**how)
            except BaseException as error:
                failed.append(error)

        context = copy_context()
        try:
            cancelled = await self._do(partial(context.run, open_it))
        except BaseException as error:  # the loop is gone, or a second Ctrl-C
            self._lane.post(partial(self._abandon, error))
            raise
        if failed:
            raise failed.pop()
        if cancelled is not None:
            await self._do(partial(self._abandon, cancelled))
            raise cancelled
        return self._entered()

    def _forks(self) -> bool:
        if self._options["engine"] not in (None, "local"):
            return False
        method, context = self._options["start_method_"], self._options["mp_context"]
        return start_method(method, context, drop_in=False) == "fork"

    # Futures -------------------------------------------------------------------------------------

    def _future(self, fn: Any) -> Future[Any]:
        name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        future: Future[Any] = Future(self._loop, self._mailbox, self, name)
        self._kept().futures.add(future)
        return future

    def forget(self, future: Future[Any]) -> None:
        """For a future: it is over."""
        self._kept().futures.discard(future)
        self._let_go()

    # Leaving -------------------------------------------------------------------------------------

    async def _leave(self, error: BaseException | None) -> bool:
        """The body is over: wait for all else, close, raise what there is to raise. True where the
        body's error is absorbed."""
        scope, members = self._entered(), self._members
        scope.unbind()
        if self._reset is not None:
            with suppress(ValueError):  # left in another context than it was entered in
                _innermost.reset(self._reset)
        runtime, group = scope.runtime, scope.group
        absorbed = members.left = True
        try:
            if isinstance(error, GeneratorExit):  # nobody can wait in what is being closed
                raise error
            members.left_in(asyncio.current_task())
            if error is not None:
                absorbed = self._take_error(error)
            await self._until(lambda: not members.siblings)
            await self._drain()
            await self._until(lambda: not members.siblings)  # whoever they have started
            await self._do(partial(runtime.leave_body, group), at_once=runtime.is_quick())
            # Callbacks make siblings up to the end, and those others (S47).
            await self._until(
                lambda: not members.siblings and (group.closed or runtime.crashed is not None)
            )
            await self._read()
            for results in self._kept().maps:
                results.close()
            await self._until(lambda: all(results.ended for results in self._kept().maps))
            await self._do(self._close, at_once=self._pool is not None and self._watcher is None)
            self._warn_unread()
            # Stopped by a scope around this one, we leave by its cancel: it may be still to come.
            await self._until(lambda: self._aborted or not self._is_stopped_by_outer())
        except BaseException as failed:
            closed = isinstance(failed, GeneratorExit)
            self._leave_behind("its body was closed" if closed else "its body could not wait")
            for each in members.errors:
                self._tell_loop(each)
            raise
        finally:
            self._release()
        runtime.check_crash()
        return self._conclude(error, absorbed)

    def _take_error(self, error: BaseException) -> bool:
        """An error leaves the body, or a sibling: stop the group, and note what is to be raised.
        Is it the group's own, to be absorbed?"""
        if isinstance(error, asyncio.CancelledError):
            self._take_cancel(error)
            return self._members.cancelled is not error
        scope = self._entered()
        absorbed, stop = scope.judge(error)
        if stop is None:
            return absorbed
        rest: BaseException | None = error
        if isinstance(error, BaseExceptionGroup):
            # Of an asyncio.TaskGroup, most often: what in it is ours already?
            mine, rest = error.split(lambda each: self._is_own(each))  # 3.11 takes no method
            if mine is not None and rest is None:
                first = next(_leaves(mine))
                absorbed, stop = True, scope.judge(first)[1]
        if stop is not None:
            # A Ctrl-C that found this very task at work, after the one that had cancelled it (S32).
            again = isinstance(error, KeyboardInterrupt) and self._members.was_cancelled
            self._order(stop, 0.0 if again else None)
        if rest is not None:
            self._members.fail(rest)
        return absorbed

    def _is_own(self, error: BaseException) -> bool:
        group = self._entered().group
        if isinstance(error, Cancelled):
            return error.token is group.token
        if isinstance(error, TaskCancelledError):
            return error.reason is group.reason is not None
        return group.raises and group.owns_failure(error)

    def _sibling_over(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            error = task.exception()
            if error is not None and self._gone:
                if not self._is_own(error):
                    self._tell_loop(error, task)
            elif error is not None:
                self._take_error(error)
        self._wake()
        self._let_go()

    def _tell_loop(self, error: BaseException, task: asyncio.Task[Any] | None = None) -> None:
        """Nobody is left to raise it: what asyncio does with errors that nobody took."""
        context = {"message": f"an error in {self!r}, whose body was closed", "exception": error}
        self._loop.call_exception_handler(context | ({} if task is None else {"task": task}))

    async def _drain(self) -> None:
        """Maps that nobody has iterated run to their end."""
        try:
            for results in self._streams:
                if not results.started:
                    while not results.skip():
                        await self._until(results.ready)
        except (Exception, Cancelled) as error:
            self._take_error(error)
        self._streams.clear()

    def _close(self) -> None:
        try:
            if self._scope is not None:
                try:
                    self._flushed = self._scope.wait_flushed()
                finally:
                    self._scope.close()
        finally:
            if self._watcher is not None:
                self._watcher.close()

    def _warn_unread(self) -> None:
        """In the loop's thread, where it points at who leaves."""
        if not self._flushed:
            try:
                warn_unread()
            except BaseException as error:
                self._members.fail(error)

    def _abandon(self, error: BaseException) -> None:
        if self._scope is not None:
            self._scope.abandon(error)
            if self._watcher is not None:
                self._watcher.close()

    def _release(self) -> None:
        if self._held:
            self._held = False
            bridge.release()
        if self._stands_in:
            self._stands_in = False
            stand_in.release()
        if self._gone:
            self._kept().behind = self
            self._let_go()
        else:
            self._kept.close()

    def _let_go(self) -> None:
        """The body was closed, but the loop may run on: siblings, and futures, are kept to their
        end."""
        if self._gone and not self._members.siblings and not self._kept().futures:
            self._kept.close()

    def _leave_behind(self, why: str = "its event loop has ended") -> None:
        """Nobody in the loop can wait any more: stop everything, and have a thread see to the end.
        Any thread; idempotent."""
        if self._gone or self._scope is None:
            return
        self._gone = True
        for results in self._kept().maps:
            results.close()
        if self._scope.runtime.closing:
            self._lane.post(self._close)  # whoever closes the pool, at exit too, sees to all else
            return
        self._order((ReasonKind.CANCEL, why, None))
        self._lane.post(partial(self._abandon, GeneratorExit()))

    def _conclude(self, error: BaseException | None, absorbed: bool) -> bool:
        scope, members = self._entered(), self._members
        self._over = True
        cancelled = members.finish()
        if members.bare is not None:
            scope.conclude(members.bare, self, False)
            if members.bare is error:
                return False
            raise members.bare
        try:
            # An outer scope of asyncio is left by its own CancelledError.
            scope.conclude(
                None,
                self,
                True,
                more=members.errors,
                parents=cancelled is None and not self._is_stopped_by_outer(),
            )
        except BaseException:
            members.cancel_again()
            raise
        if cancelled is None:
            return absorbed
        if cancelled is error:
            return False
        try:
            raise cancelled
        finally:
            del cancelled, error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
