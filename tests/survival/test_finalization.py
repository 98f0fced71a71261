"""What is left at a module's top level is ended by the interpreter itself, last of all (S38).

By then every pool has been closed, and no thread can be had any more: up to 3.11 Python waits for
ever for one that is started. Each program ends by itself, and with the status that is due.
"""

from __future__ import annotations

import sys
import threading

import pytest

from andon import _threads
from tests.support import run_python

HEAD = """\
import asyncio, sys, time, andon, andon.aio
METHOD = sys.argv[1]
def work(i):
    time.sleep(0.05)
    return i
"""
PROGRAMS = {
    "an untouched iterator, its pool was left": """\
with andon.Pool(1, start_method=METHOD) as pool:
    results = pool.imap(work, [1, 2, 3])
""",
    "an untouched iterator, its pool is open": """\
pool = andon.Pool(1, start_method=METHOD)
results = pool.imap(work, [1, 2, 3])
""",
    "an untouched iterator, its pool was terminated": """\
pool = andon.Pool(1, start_method=METHOD)
results = pool.imap_unordered(work, [1, 2, 3] * 100)
pool.terminate()
pool.join()
""",
    "an iterator that was begun": """\
pool = andon.Pool(1, start_method=METHOD)
results = pool.imap(work, [1, 2, 3] * 100)
next(results)
""",
    "an iterator in a circle": """\
def main():
    with andon.Pool(1, start_method=METHOD) as pool:
        circle = [pool.imap(work, [1, 2, 3])]
        circle.append(circle)
main()
""",
    "a map that reads an iterator": """\
results = andon.imap(work, iter(range(100)), workers=1, start_method=METHOD)
next(results)
""",
    "an executor's map": """\
executor = andon.ProcessPoolExecutor(1, start_method=METHOD)
results = executor.map(work, [1, 2, 3])
""",
    "a loop that was left in the middle": """\
async def main():
    async with andon.aio.TaskGroup(workers=1, start_method=METHOD) as tg:
        await tg.run(work, 1)
        running.set()
        await asyncio.sleep(60)
running = asyncio.Event()
loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.run_until_complete(running.wait())
""",
    "an asynchronous generator": """\
async def numbers():
    async with andon.aio.TaskGroup(workers=1, start_method=METHOD) as tg:
        yield await tg.run(work, 1)
        await asyncio.sleep(60)
loop = asyncio.new_event_loop()
generator = numbers()
assert loop.run_until_complete(anext(generator)) == 1
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_S38_it_ends(start_method: str, program: str) -> None:
    result = run_python(["-c", HEAD + PROGRAMS[program], start_method], timeout=20)
    assert result.returncode == 0, result.stderr
    # asyncio and the warnings of what is left open may say so; nothing has failed.
    assert "Traceback" not in result.stderr, result.stderr


def test_S38_after_an_error(start_method: str) -> None:
    """The last traceback keeps what the function had."""
    program = (
        "def main():\n"
        "    with andon.Pool(1, start_method=METHOD) as pool:\n"
        "        results = pool.imap(work, [1, 2, 3])\n"
        "        raise ValueError('as ever')\n"
        "main()\n"
    )
    result = run_python(["-c", HEAD + program, start_method], timeout=20)
    assert result.returncode == 1, result.stderr
    assert result.stderr.strip().endswith("ValueError: as ever")
    assert result.stderr.count("Traceback") == 1


def test_no_thread_is_started_while_the_interpreter_finalizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[bool] = []
    thread = threading.Thread(target=ran.append, args=(True,))
    with monkeypatch.context() as last:
        last.setattr(sys, "is_finalizing", lambda: True)
        with pytest.raises(RuntimeError, match="finalizing"):
            _threads.start(thread)
    _threads.start(thread)
    thread.join()
    assert ran == [True]


OWNED = """\
def trace(event): pass
class Scratch:
    def __del__(self): print("deleted", flush=True)
scratch = Scratch()
"""


@pytest.mark.parametrize(
    "opening",
    [
        "andon.ProcessPoolExecutor(1, start_method=METHOD)",
        "andon.ProcessPoolExecutor(1, start_method=METHOD, trace=trace)",
        "andon.Pool(1, start_method=METHOD)",
    ],
)
def test_what_a_program_owns_is_finalized_though_its_pool_was_left_open(
    start_method: str, opening: str
) -> None:
    """`trace` leads to the globals of `__main__`, and so does what packs its functions."""
    program = f"{HEAD}{OWNED}pool = {opening}\nlist(pool.map(work, [1]))\n"
    result = run_python(["-c", program, start_method])
    assert (result.stdout, result.stderr, result.returncode) == ("deleted\n", "", 0)
