"""Engines: where tasks run. `port.py` says what an engine is; `local/` runs worker processes."""
