"""The usual recipe for stopping a pool early, with nothing but its imports changed.

Every worker gets a shared event; the tasks look at it between their steps, and the one that fails
sets it. With the standard library the first lines would be

    from multiprocessing import Manager, Pool
    event = Manager().Event()

and the rest the same. Here the event needs no manager process, and the program needs no
`if __name__ == "__main__"`. See `stop_the_line.py` for the same job without any of this.
"""

import sys
import time

from andon import Event, Pool

event = Event()


def init_worker(shared_event: Event) -> None:
    global event
    event = shared_event


def work(number: int) -> str:
    for step in range(1, 5):
        if event.is_set():
            return f"stopped before step {step}"
        time.sleep(0.05 + 0.01 * number)
        if number == 5 and step == 4:
            event.set()
            raise ValueError("the last step went wrong")
    return "done"


with Pool(4, initializer=init_worker, initargs=(event,)) as pool:
    results = [pool.apply_async(work, (number,)) for number in range(10)]
    failures = 0
    for number, result in enumerate(results):
        try:
            print(f"task {number}: {result.get()}")
        except ValueError as error:
            print(f"task {number}: failed: {error}")
            failures += 1

sys.exit(1 if failures else 0)
