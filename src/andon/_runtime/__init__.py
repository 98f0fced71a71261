"""The runtime does what the machine decides: threads, futures, Ctrl-C, open groups."""
