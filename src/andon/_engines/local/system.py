"""The pieces of the engine that are this system's own (see `platform/`).

Only Linux is measured and tested; the other two are type-checked, and what of them can run on Linux
is run there by the tests.
"""

from __future__ import annotations

import sys
from functools import partial

if sys.platform == "linux":
    from andon._engines.local.link import Link as Launcher
    from andon._engines.local.platform.linux import Hold, Poller
    from andon._engines.local.template import connect
    from andon._engines.local.template_process import exists
elif sys.platform == "win32":
    from andon._engines.local import spawner
    from andon._engines.local.platform.windows import Hold
    from andon._engines.local.spawner import Spawner as Launcher
    from andon._engines.local.spawner import exists
    from andon._engines.local.threads import Poller

    connect = partial(spawner.connect, Hold)
else:
    from andon._engines.local import spawner
    from andon._engines.local.platform.macos import Hold, Poller
    from andon._engines.local.spawner import Spawner as Launcher
    from andon._engines.local.spawner import exists

    connect = partial(spawner.connect, Hold)

__all__ = ["Hold", "Launcher", "Poller", "connect", "exists"]
