"""All who take part, by name."""

from __future__ import annotations

from benchmarks.speed import async_pools, events, pools

LIBRARIES: dict[str, type[pools.Pool]] = {
    "andon": pools.Andon,
    "multiprocessing.Pool": pools.MultiprocessingPool,
    "ProcessPoolExecutor": pools.StandardExecutor,
    "pebble": pools.Pebble,
    "loky": pools.Loky,
    "joblib": pools.Joblib,
    "mpire": pools.Mpire,
    "deadpool": pools.Deadpool,
    "trio-parallel": async_pools.TrioParallel,
    "anyio": async_pools.AnyIO,
}
EVENTS: dict[str, type[pools.Pool]] = {
    "multiprocessing.Event": events.SharedEvent,
    "Manager().Event": events.ManagersEvent,
}
ALL: dict[str, type[pools.Pool]] = {**LIBRARIES, **EVENTS}
