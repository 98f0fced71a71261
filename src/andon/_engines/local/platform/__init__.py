"""What differs from one system to the next, a file each; `system.py` picks this one's.

    linux.py    epoll and pidfds; workers are started by the template (../template.py)
    macos.py    poll; workers are started from here (../spawner.py), and seen by kqueue
    windows.py  threads wait (../threads.py); workers are started from here, a job object each

Each offers, to the rest of the engine:

    Poller      what the engine waits for; makes the parent's ends of a worker's pipes
    Hold        of one worker's process: see its end, interrupt it, kill it
and `system.py` beside them
    Launcher    starts workers, and tells what became of them, as messages
    connect     makes one
    exists      is there still a process of that number?
"""
