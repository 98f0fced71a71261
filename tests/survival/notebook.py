"""A notebook without a page, its cells run in a kernel: `-m tests.survival.notebook DIRECTORY`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from tests.support import Stage, allowed, wait_gone
from tests.survival.test_programs import BODY, TOP

AGAIN = """\
FACTOR = 10
def triple(x):
    return FACTOR * x + 1
again = andon.Pool(2, start_method=METHOD)
print(again.map(triple, range(3)), again.map(lambda x: x + FACTOR, [1]))
"""
BAR = "_ = andon.map(triple, range(5), workers=1, start_method=METHOD, progress=True)"
HELD = """\
from tests.support import Stage
from tests.survival.places import sleep
again.map(sleep, [Stage({path!r})] * 3)
"""


def main(stage: Stage) -> None:
    manager, client = start_new_kernel(kernel_name="python3")
    shown: list[str] = []
    sleepers: list[str] = []

    def cell(code: str) -> Any:
        shown.clear()
        return client.execute_interactive(
            code,
            timeout=60,
            output_hook=lambda message: shown.append(message["content"].get("text", "")),
        )["content"]

    def interrupt() -> None:
        sleepers.extend(stage.wait(2))
        manager.interrupt_kernel()

    try:
        for code in (TOP + BODY, AGAIN):
            cell(code)
            print("".join(shown), end="")
        cell(BAR)
        print("".join(shown).strip().rpartition("\r")[2].partition(",")[0])
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        reply = cell(HELD.format(path=stage.path))
        interrupter.join()
        wait_gone(map(int, sleepers), within=allowed(1.0))
        print(reply["status"], reply["ename"])
        cell("print(again.map(triple, range(3)))")
        print("".join(shown), end="")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main(Stage.create(Path(sys.argv[1]) / "running"))
