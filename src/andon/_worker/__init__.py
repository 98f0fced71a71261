"""What runs in worker processes. Imports the standard library and the ground floor only: a
worker's start-up time is its own.

    boot.py      the first acts of a worker, from a fork or an exec to its loop
    posix.py     what of these is Linux's and macOS's
    windows.py   and Windows's
    orders.py    a thread at the lifeline, where the kernel cannot see to it
    loop.py      read a request, execute it, answer; blocking, single-threaded
    call.py      one careful call of user code, and what became of it
    signals.py   the interrupt (step 2 of the ladder) and the other signals of a worker
    state.py     what runs now; read by the token's and the task's functions too
    checkpoint.py  the fast path of `check()`
    channel.py   whole frames in and out of the two pipes
    relay.py     the way home for what user code says beside its results
    records.py   log records; loaded where user code logs
    warned.py    warnings
    children.py  which processes a task has left behind
    template.py  the process that forks the workers, on Linux
    messages.py  what it and the parent say to each other
    orphans.py   what dead workers have left behind
    inherited.py   what these inherit and need not unpickle
"""
