"""Exit statuses of the command."""

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130  # as a shell shows a process that SIGINT ended
TERMINATED = 143  # as a shell shows a process that SIGTERM ended
