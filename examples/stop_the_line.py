"""The job of `shared_event.py` as andon would have it: no event, no check, a plain `raise`.

The first failure stops the others wherever they are, within milliseconds, and nothing that waits
is started. What became of each task stays readable.
"""

import sys
import time

import andon


def work(number: int) -> str:
    for step in range(1, 5):
        time.sleep(0.05 + 0.01 * number)
        if number == 5 and step == 4:
            raise ValueError("the last step went wrong")
    return "done"


group = andon.TaskGroup(workers=4)
try:
    with group as tg:
        for number in range(10):
            tg.submit(work, number)
except* ValueError as errors:
    print(f"stopped: {errors.exceptions[0]}")

for task in group.outcomes:
    how = f" ({task.stopped_by})" if task.state == "cancelled" else ""
    print(f"task {task.index}: {task.state}{how}")

sys.exit(0 if group.verdict == "ok" else 1)
