"""The standard library's own tests of its pools, run against andon's: `scripts/stdlib-suites`.

    __main__.py      the command: a process for each suite and start method, then a summary
    environment.py   the Python that they run in: in it, and in each of its children, our classes
                     stand in place of the standard ones
    run.py           one suite under one start method, in that Python
    suites.py        what a suite is, and an exclusion with its reason
    pool.py          multiprocessing.Pool: which tests, what takes whose place, what is excluded
    executor.py      concurrent.futures.ProcessPoolExecutor: the same

The tests are those of the Python that runs this; nothing of them is copied here.
"""
