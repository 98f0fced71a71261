"""The local engine: worker processes on this machine.

    engine.py          the port's six methods: hands attempts to workers, runs the ladders
    crew.py            which workers there are: slots, successors, respawns (S22, S42, S51)
    lives.py           their processes: how each is started, watched, and ends (S20, S22)
    settings.py        what a worker is told first
    worker_process.py  one worker as the parent sees it: descriptors, state, what it was given
    frames.py          pure: bytes into frames
    channel.py         frames over its two pipes, never blocking
    ladder.py          pure: when to interrupt, dump and kill (S15)
    climber.py         takes the steps that are due
    ledger.py          what workers have said, and what becomes of it: events, their next state
    lone.py            a call that has the pool to itself: who waits for it lingers
    overdue.py         gives back what stands in a span behind a long item
    hunger.py          and what others could do that have nothing
    respawn.py         pure: how many deaths are too many (S42)
    packing.py         calls into bytes, in the submitting thread (S28)
    store.py           where large arguments lie, in shared memory, until their task is over
    handed_down.py     what forked workers inherit, and need not be sent
    inbox.py           frames into events, without the lock
    postmortem.py      what can be said of a dead worker (S25)
    timers.py          calls to come
    descriptors.py     what a forked child of ours must not keep open
    system.py          this system's poller, launcher and holds of processes, out of
      platform/          linux, macos, windows
      template.py        which processes start workers on Linux: one a pool, or shared
      template_process.py  one of them: how it is started, and ended
      link.py            an engine's connection to it
      spawner.py         starts workers itself, elsewhere
      interpreter.py     how both start a fresh interpreter
      threads.py         waits by threads: Windows
      orders.py          what signals do elsewhere: Windows
"""
