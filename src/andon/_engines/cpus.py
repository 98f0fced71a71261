"""How many CPUs there are for us."""

from __future__ import annotations

import math
import os
import sys


def cpu_count() -> int:
    """The CPUs that this process may use: affinity and the container's limit respected."""
    if sys.platform == "linux":
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_cpus()
    if quota is not None:
        count = min(count, max(1, math.ceil(quota)))
    return max(1, count)


def _cgroup_cpus() -> float | None:
    # cgroup v2: "<quota|max> <period>"; v1: two files, quota -1 for none. In microseconds.
    for quota_file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        try:
            with open(quota_file, encoding="ascii") as f:
                words = f.read().split()
            if period_file is not None:
                with open(period_file, encoding="ascii") as f:
                    words += f.read().split()
            if words[0] in ("max", "-1"):
                return None
            return int(words[0]) / int(words[1])
        except (OSError, ValueError, IndexError):
            continue
    return None
