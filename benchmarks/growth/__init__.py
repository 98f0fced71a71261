"""How andon grows: see `python -m benchmarks.growth --help`."""
