"""Large pickles and arrays beside the pipes: in shared memory.

    memory.py   the shared memory (it has no name), and private memory to copy into
    parcel.py   an object into a small pickle and its large buffers, and back
    lending.py  arguments are read where they lie, while their task runs
    ring.py     where a worker puts its results

The parent's half, where arguments lie until their task is over, is `_engines/local/store.py`.
"""
