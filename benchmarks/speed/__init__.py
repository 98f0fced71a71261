"""How fast tasks flow: the rows of `python -m benchmarks`."""
