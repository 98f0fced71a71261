"""What runs in worker processes. Imports the standard library and the ground floor only: a
worker's start-up time is its own.

    boot.py      the first acts of a worker, from a fork or an exec to its loop
      posix.py     what of these is Linux's and macOS's
      windows.py   and Windows's
      orders.py    a thread at the lifeline, where the kernel cannot see to it
      frozen.py    an application that is its own interpreter
    loop.py      read a request, execute it, answer; blocking, single-threaded
      runs.py      what it does around a lane
      lane.py      short items that follow each other: of one plain type,
      mixed_lane.py  and of any
      answers.py   what is said of a task: to its row, and to the parent
      outbox.py    answers on their way: some can wait for the next
      linger.py    to look for a moment before one sleeps
    call.py      one careful call of user code, and what became of it
      context.py   with the context variables of whoever submitted it
    signals.py   the interrupt (step 2 of the ladder) and the other signals of a worker
    state.py     what runs now; read by the token's and the task's functions too
    checkpoint.py  the fast path of `check()`
    channel.py   whole frames in and out of the two pipes
    relay.py     the way home for what user code says beside its results
      records.py   log records; loaded where user code logs
      warned.py    warnings
    children.py  which processes a task has left behind
    template.py  the process that starts the workers, on Linux
      births.py    how it makes one
      messages.py  what it and the parent say to each other
      orphans.py   what dead workers have left behind
      inherited.py what forked workers inherit and need not unpickle
"""
