"""Programs under Ctrl-C, for `test_aio_ctrl_c`: `python -m tests.facades.aio_programs NAME DIR`.

Each says `running PID` once its task is under way, and what became of it at the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import andon
import andon.aio


def stubborn() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # no interrupt is felt
    token = andon.current_token()
    print("running", os.getpid(), flush=True)
    while not token.is_set():
        time.sleep(0.001)
    print("stopping", flush=True)
    while True:
        time.sleep(60)


def plain() -> None:
    print("running", os.getpid(), flush=True)
    time.sleep(60)


async def scope(pool: andon.Pool | None = None, **options: object) -> None:
    task = stubborn if options else plain
    tg = andon.aio.TaskGroup(pool=pool, **(options or {"workers": 1} if pool is None else {}))  # type: ignore[arg-type]
    try:
        async with tg:
            await tg.run(task)
    finally:
        print(tg.reason.kind, tg.outcomes[0].stopped_by, flush=True)


def own() -> None:
    asyncio.run(scope())


def twice() -> None:
    """The ladder would take a minute: the second Ctrl-C kills."""
    asyncio.run(scope(workers=1, kill_after=60))


def on_a_pool() -> None:
    with andon.Pool(1) as pool:  # its Ctrl-C handler is there before asyncio could set one
        asyncio.run(scope(pool))


def bare_loop() -> None:
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(scope())
    finally:
        loop.close()


async def leaves_a_task(left: list[asyncio.Task[None]]) -> None:
    entered = asyncio.Event()

    async def background() -> None:
        async with andon.aio.TaskGroup(workers=1):
            entered.set()
            await asyncio.Event().wait()

    left.append(asyncio.create_task(background()))
    await entered.wait()


async def is_cancelled() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise


def left_open() -> None:
    """The run is over before the scope is; the next run has a handler of its own again."""
    left: list[asyncio.Task[None]] = []
    asyncio.run(leaves_a_task(left))
    print(left[0].cancelled(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    asyncio.run(is_cancelled())


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]]()
    except KeyboardInterrupt:
        print("KeyboardInterrupt", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
