"""`multiprocessing.Pool`: the tests of process pools in `test._test_multiprocessing`."""

from __future__ import annotations

import importlib.util
import unittest

from tests.stdlib.suites import Exclusion, Why

TITLE = "multiprocessing.Pool → andon.Pool: test._test_multiprocessing"

# What stands there, without the kind of process that is put before it.
CLASSES = (
    "WithProcessesTestPool",
    "WithManagerTestPool",
    "WithProcessesTestPoolWorkerErrors",
    "WithProcessesTestPoolWorkerLifetime",
)
TESTS = (
    "TestInitializers.test_pool_initializer",
    "TestStdinBadfiledescriptor.test_pool_in_process",
    "TestPoolNotLeakOnFailure.test_release_unused_processes",
    "TestSyncManagerTypes.test_pool",
    "MiscTestCase.test_large_pool",
)

EXCLUDED = (
    Exclusion(
        "With*TestPool.test_map_no_failfast",
        Why.DIFFERENCE,
        "that a failed map waits for all of its items: the first failure stops the others",
    ),
    Exclusion(
        "WithProcessesTestPoolWorkerErrors.test_unpickleable_result",
        Why.DIFFERENCE,
        "that a lambda cannot be a result: it can",
    ),
    Exclusion(
        "WithProcessesTestPool.test_make_pool",
        Why.PRIVATE,
        "len(pool._pool)",
    ),
    Exclusion(
        "WithProcessesTestPool.test_resource_warning",
        Why.PRIVATE,
        "sets pool._state of a pool that was terminated",
    ),
    Exclusion(
        "WithProcessesTestPoolWorkerLifetime.test_pool_worker_lifetime",
        Why.PRIVATE,
        "pool._pool, pool._repopulate_pool()",
    ),
    Exclusion(
        "TestPoolNotLeakOnFailure.test_release_unused_processes",
        Why.PRIVATE,
        "counts on the pool to start its workers by context.Process, a mock",
    ),
)


def missing() -> str:
    """Why they cannot be run here; empty where they can."""
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        return "this Python comes without test._test_multiprocessing"
    return ""


def substitute() -> None:
    """`multiprocessing.Pool`, every context's `Pool` and a manager's are looked up here."""
    import multiprocessing.pool

    import andon

    multiprocessing.pool.Pool = andon.Pool  # type: ignore[misc]
    multiprocessing.pool.RemoteTraceback = andon.RemoteTraceback  # type: ignore[misc]


def tests(method: str) -> unittest.TestSuite:
    """The tests of this Python."""
    from tests.stdlib import pool_cases

    loader = unittest.TestLoader()
    chosen = unittest.TestSuite(
        loader.loadTestsFromTestCase(getattr(pool_cases, name)) for name in CLASSES
    )
    for name in TESTS:
        kind, _, test = name.partition(".")
        if hasattr(getattr(pool_cases, kind, None), test):  # some came with a newer Python
            chosen.addTest(loader.loadTestsFromName(name, pool_cases))
    return chosen
