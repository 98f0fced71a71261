"""How fast the line stops: see `python -m benchmarks.stop --help`."""
