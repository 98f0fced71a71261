"""The runtime does what the machine decides: threads, futures, Ctrl-C, open groups.

A pool
    runtime.py       its machine, engine and driver, and the one lock around them
      performing.py    what the machine decides is done on the engine, and told to those who wait
      handing.py       tasks and single calls into the machine: the part of that under the lock
      submitting.py    the part before it: what facades call to submit and to cancel
      hearing.py       a bell rang: which stop word was pulled?
    driver.py        who waits for what the workers tell: a thread, or the caller itself
    shared.py        what `Pool` and `ProcessPoolExecutor` share
    waits.py         what a pool that is to end waits for
      unread.py        what lies in queues that nobody reads
    registry.py      the open pools of this process
    options.py       arguments, checked in one place before any process starts
      surroundings.py  environment and context variables
    room.py          is there room on the stack?
A group
    groups.py        its token, its outcomes, and who waits for its end
    scope.py         its body: how it is entered,
      leaving.py       and left
      endings.py       what its end raises
    finishing.py     the maps of a pool that finishes what it has accepted
A task
    tasks.py         who waits for it, and how its outcome is told
    futures.py       its future
      future_lock.py   what `concurrent.futures` locks that by
      callbacks.py     the thread that runs done callbacks
    sending.py       what cannot travel fails alone
    calls.py         single calls that wait: short ones travel together
      flow.py          how many are under way at once
A map
    streams.py       its results, in order or as they end
      reading.py       its input, read lazily
      pacing.py        how many items travel together
      collector.py     the results of `map_async` and its kin
      one_by_one.py    `map` by way of somebody's own `submit`
The main thread, and others
    interrupts.py    Ctrl-C
    handlers.py      the program's own signal handlers, held back inside the gate
    wakeup.py        a wait that may be interrupted anywhere
    listener.py      log records and warnings out of the workers, told here
"""
