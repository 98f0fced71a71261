"""The machine: pure. No threads, processes, clock, I/O or pickle."""
