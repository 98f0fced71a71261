"""`andon run`: one group, one call per item, and an account of every item at the end.

    items --feed--> TaskGroup.imap --outcomes--> Ledger --> results.jsonl, tally, bar
                          ^
    Ctrl-C, SIGTERM ------+ stop, then kill (signals.py)

Invariants:
1. Each item that was read is accounted for exactly once, in the tally and in the results file, also
   after a failure, a deadline, Ctrl-C or SIGTERM. So is the rest of a list that was not read on.
2. Nothing is started before target, items and output are known to be good.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import andon
from andon.cli.arguments import RunOptions
from andon.cli.items import Items, open_items
from andon.cli.results import Results, open_results
from andon.cli.signals import Signals
from andon.cli.status import FAILED, INTERRUPTED, OK, TERMINATED
from andon.cli.streams import tell
from andon.cli.summary import Tally, summary
from andon.cli.target import load
from andon.cli.task import ItemTask
from andon.errors import GroupTimeoutError
from andon.outcome import Outcome, StoppedBy, TaskState, Verdict
from andon.report import Progress, Reporter, bar


def run(options: RunOptions) -> int:
    """Do what `andon run` was asked; return the exit status. `UsageError` before any process."""
    call = load(options.target)
    with ExitStack() as stack:
        items = stack.enter_context(open_items(options.items, options.source, options.null))
        results = open_results(options.output, options.source, options.items)
        if results is not None:
            stack.enter_context(results)
        task = ItemTask(call, keep=results is not None)
        return _Run(options, task, items, results).run()


PATIENCE = 1.0
"""Seconds in which the rest of a list is accounted for, however often someone says stop."""


class _Run:
    def __init__(
        self,
        options: RunOptions,
        call: Callable[[str], Any],
        items: Items,
        results: Results | None,
    ) -> None:
        self._options = options
        self._call = call
        self._items = items
        self._ledger = Ledger(results, options.keep_going)
        self._reporter: Reporter | None = bar(last_line=False) if options.progress else None
        self._started = time.monotonic()
        self._group: andon.TaskGroup | None = None  # once it is open

    def run(self) -> int:
        problems: list[BaseException] = []
        with Signals() as signals:
            for part in (self._work, self._settle):  # both may find that the input cannot be read
                try:
                    part(signals)
                except BaseException as error:
                    problems.append(error)
            group = self._group
            reason = None if group is None else group.reason
            tally = self._ledger.tally
            problems = [p for error in problems for p in self._ledger.unknown(error)]
            if self._ledger.broken is not None:
                problems.append(self._ledger.broken)
            self._show(lambda reporter: reporter.finish(self._progress(), reason))
            tell(
                summary(
                    tally,
                    reason,
                    problems,
                    signalled=signals.name,
                    seconds=time.monotonic() - self._started,
                    output=self._options.output,
                )
            )
        if signals.first is not None:
            return TERMINATED if signals.first == signal.SIGTERM else INTERRUPTED
        failed = problems or tally.failed or group is None or group.verdict != Verdict.OK
        return FAILED if failed else OK

    def _make_group(self) -> andon.TaskGroup:
        o = self._options
        return andon.TaskGroup(
            workers=o.workers,
            policy=andon.collect_all() if o.keep_going else None,
            deadline=o.deadline,
            grace=o.grace,
            kill_after=o.kill_after,
            timeout=o.timeout,
            start_method=o.start_method,
            progress=None if self._reporter is None else self._tell,
            name="andon-run",
        )

    def _work(self, signals: Signals) -> None:
        with self._make_group() as tg:
            self._group = tg
            signals.catch_up(tg.cancel)
            # The bar has a thread, and under `fork` there must be none before the group is open.
            self._show(lambda reporter: reporter.start(self._items.total))
            token, ledger = tg.token, self._ledger
            fed = ledger.feed(self._items.read(lambda: token.is_set() or ledger.closed))
            # What comes slowly must not wait until a span of items is full.
            size = None if self._items.ready else 1
            for outcome in tg.imap(self._call, fed, return_outcomes=True, chunksize=size):
                ledger.record(outcome)
                if ledger.broken is not None:
                    tg.cancel("the results cannot be written")

    def _settle(self, signals: Signals) -> None:
        """Account for what the loop did not see: it may have been left early (invariant 1)."""
        ledger = self._ledger
        if ledger.open and self._group is not None:
            for outcome in self._group.outcomes:
                if outcome.index in ledger.open:
                    ledger.record(outcome)
        came, began = signals.count, time.monotonic()

        def enough() -> bool:  # someone does not want to wait for the end of a very long list
            return signals.count > came and time.monotonic() - began > PATIENCE

        ledger.close(self._items, enough)

    def _tell(self, snapshot: Progress) -> None:
        known = Progress(
            done=snapshot.done,
            failed=snapshot.failed,
            cancelled=snapshot.cancelled,
            running=snapshot.running,
            total=self._items.total,
            elapsed=snapshot.elapsed,
        )
        self._show(lambda reporter: reporter.update(known))

    def _show(self, call: Callable[[Reporter], None]) -> None:
        """On the display, if there is one; once it fails (a terminal that has hung up), there is
        none any more, and that is no failure of the run."""
        if self._reporter is None:
            return
        try:
            call(self._reporter)
        except Exception:
            self._reporter = None

    def _progress(self) -> Progress:
        t = self._ledger.tally
        elapsed = time.monotonic() - self._started
        cancelled = t.stopped + t.never_started
        return Progress(t.done, t.failed, cancelled, 0, self._items.total, elapsed)


class Ledger:
    """Which items are out, and what became of the others. `open` maps index to item."""

    def __init__(self, results: Results | None, keep_going: bool) -> None:
        self.tally = Tally()
        self.open: dict[int, str] = {}
        self.closed = False
        self.broken: OSError | None = None
        self._reading = threading.Lock()
        self._results = results
        self._read = 0
        self._raised: list[BaseException] | None = None if keep_going else []

    def feed(self, items: Iterator[str]) -> Iterator[str]:
        """The items, noted as out before anyone else has them; none once the account is closed.

        andon reads them in a thread of its own, which may still be at it when the group is over.
        """
        while True:
            with self._reading:
                item = None if self.closed else next(items, None)
                if item is None:
                    return
                self.open[self._read] = item
                self._read += 1
            yield item

    def record(self, outcome: Outcome) -> None:
        """An item that was out has its outcome."""
        item = self.open.pop(outcome.index)
        self.tally.add(outcome, item)
        if self._raised is not None and outcome.error is not None:
            self._raised.append(outcome.error)
        if self._results is not None and self.broken is None:
            try:
                self._results.write(outcome, item)
            except OSError as error:
                self.broken = error

    def close(self, items: Items, enough: Callable[[], bool]) -> None:
        """What has no outcome by now never started: read too late to be submitted, or not read.

        Reads the rest of a list until `enough()`.
        """
        self.closed = True
        with self._reading:  # a reader that waits for input looks at `closed` (items.POLL)
            for index in sorted(self.open):
                self._never(index)
            try:
                for item in items.rest(enough):
                    if enough():
                        self.tally.unread = True
                        return
                    self.open[self._read] = item
                    self._never(self._read)
                    self._read += 1
            finally:
                self.tally.unread |= items.unread

    def unknown(self, error: BaseException) -> Iterator[BaseException]:
        """What of it the summary does not tell anyway, as an item's failure or as the reason."""
        if isinstance(error, GroupTimeoutError) or any(error is e for e in self._raised or ()):
            return
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from self.unknown(inner)
        else:
            yield error

    def _never(self, index: int) -> None:
        never = StoppedBy.NEVER_STARTED
        self.record(Outcome(index, TaskState.CANCELLED, started=False, stopped_by=never))
