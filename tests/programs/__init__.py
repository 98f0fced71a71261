"""Real programs that use the standard pools, run with ours in their place: scripts/real-programs.

`cases.py` says what is run, `compare.py` runs it twice and compares, `shim/sitecustomize.py` puts
our classes in the place of the standard ones. `process_map.py` is a program of tqdm's kind.
"""
