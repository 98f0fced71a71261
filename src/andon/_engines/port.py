"""The port: what an engine is. Six methods downwards, events upwards.

Threads: `open`, `submit`, `stop`, `look` are called with the runtime's lock held and never block.
`pump` is called by one thread at a time, without the lock; it waits, then hands what happened to
`post`. User code (unpickling) runs only inside `pump`, never under the lock. `close` is called
once, without the lock, when no other thread pumps; it is bounded by `within` and runs its own pump.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from andon._locks import make_lock
from andon._record import made, record

if TYPE_CHECKING:
    from andon.token import Token


@record(eq=False)
class GroupRef:
    """A group as an engine sees it: a number, the word that stops it, and the times of its ladder,
    which a group that is opened inside one of its tasks must undercut (S37). `stopping`: some
    attempt of it was stopped with all of it, and not merely to drain; the engine's own to note."""

    id: int
    token: Token
    grace: float = 0.0
    kill_after: float = 0.0
    stopping: bool = False


@record(eq=False)
class Attempt:
    """One try of a task: items `lo` to `hi` of a packed call (`hi - lo` is 1 for a single task).

    `fatal`: the first failure decides and will not be retried, so the worker may pull the cord
    itself (S11). `packed` is what the engine's own `pack` made of the call, in the submitting
    thread (S28).
    """

    id: int
    group: GroupRef
    packed: Any
    lo: int
    hi: int
    fatal: bool


@record()
class Call:
    """What the user asked for: `fn(*args, **kwargs)`, or, as a span, `fn(item)` for each item
    (`fn(*item)` where `star`). `seconds`: so long a span should take; 0: nobody knows. `first`: the
    number of a span's first item in its map. `gathered`: nobody waits for a result of it before the
    map's last."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = made(default_factory=dict)
    items: Sequence[Any] | None = None
    star: bool = False
    seconds: float = 0.0
    first: int = 0
    gathered: bool = False


@record()
class Config:
    """How a pool was asked to be, and what the runtime lends to its engine: the `lock`, and, under
    it, `wanted(group)`: does a task of another group wait?"""

    workers: int
    start_method: str = "forkserver"
    initializer: Callable[..., Any] | None = None
    initargs: tuple[Any, ...] = ()
    max_tasks_per_worker: int | None = None
    reuse_interrupted: bool = False
    prestart: bool = False
    env: dict[str, str | None] = made(default_factory=dict)  # over the parent's; None: not there
    lock: Any = made(default_factory=make_lock)
    wanted: Callable[[int], bool] = lambda group: True


class Frozen:
    """An item as it was when it was read: its pickle."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Pace:
    """What the runtime notes of one function."""

    __slots__ = ("seconds", "together")

    def __init__(self) -> None:
        self.together = 1  # so many single calls of it
        self.seconds = 0.0  # that an item of a map takes; 0: nobody knows


@record()
class Capabilities:
    """What an engine can do (S49), and what it lends to the runtime.

    `slots`: attempts that may be with the engine at once. `token_latency`: seconds until a stop
    word is seen by every worker, as declared. `pack(call)` is run in the submitting thread;
    `weigh(packed)` tells the bytes of what is large in it; `bundle(calls)` packs the first few of
    several packed calls, those that can travel together, as the items of one, and tells how many
    (None: it cannot); `pace(packed)` is the same object for all calls of one function, where it is
    known. `cores`: tasks that can compute at the same time. `wake()` ends a running `pump` early,
    from any thread. `preparing()`: does a worker that was started still have the initializer to
    run? `freeze(item)` is what to pack later for an item that may be changed until then; None: it
    must be packed now. `foresee(fn)` loads, in the calling thread, what packing calls of it may
    want. `dismiss()`: no more work is expected, so idle workers may leave; should
    some come all the same, it gets others. Called with the runtime's lock held; never blocks.
    `leaving()`: are workers that were asked to leave still to send what they have for others?
    `linger()` may be called before a `pump`, by who waits for a result: where it is likely to come
    at once, that pump does not sleep at first, for a fraction of a millisecond at most.
    """

    slots: int
    can_kill: bool
    can_interrupt: bool
    token_latency: float
    pack: Callable[[Call], Any]
    wake: Callable[[], None]
    weigh: Callable[[Any], int] = lambda packed: 0
    bundle: Callable[[Iterable[Any]], tuple[Any, int]] | None = None
    pace: Callable[[Any], Pace] = lambda packed: Pace()
    cores: float = math.inf
    preparing: Callable[[], bool] = lambda: False
    freeze: Callable[[Any], Any] = lambda item: item
    foresee: Callable[[Callable[..., Any]], None] = lambda fn: None
    dismiss: Callable[[], None] = lambda: None
    leaving: Callable[[], bool] = lambda: False
    linger: Callable[[], None] = lambda: None


@record()
class Row:
    """One worker, as the board shows it."""

    row: int
    pid: int | None
    attempt: int | None
    index: int
    phase: str
    started_at: float | None
    used_token: bool
    shield_until: float | None
    stopping: bool = False


class Engine(Protocol):
    """Stands behind every pool. One contract suite runs against all of them."""

    def open(self, post: Callable[[list[Any]], None], config: Config) -> Capabilities:
        """Make ready; start nothing that a later error would leave behind."""

    def submit(self, attempt: Attempt) -> None:
        """Take an attempt; start it as soon as a worker is free, in order of submission."""

    def stop(
        self,
        group: int | None,
        attempt: int | None,
        grace: float,
        kill_after: float,
        *,
        soon: bool = False,
    ) -> list[int]:
        """Run the ladder (S15) over all attempts of a group, or over one. Idempotent; a second
        call can only harden (S9). The group's stop word is already set, unless `soon`: then
        running attempts go on, and only what has not begun is stopped; of an attempt of several
        items, `GivenBack` says where it is. Returns the attempts that
        had not been given to a worker: they are over, and no event tells of them."""

    def look(self) -> list[Row]:
        """What the workers are doing now."""

    def at(self, row: int) -> tuple[int, int] | None:
        """The attempt and the item that the worker of that row on our board is at."""

    def pump(self, timeout: float | None) -> None:
        """Wait up to `timeout` seconds (None: until something happens), then post."""

    def close(self, within: float) -> Sequence[int]:
        """Stop all workers; return the pids of those that could not be reaped in time (S21)."""
