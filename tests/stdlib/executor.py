"""`concurrent.futures.ProcessPoolExecutor`: `test.test_concurrent_futures`, one module or many."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import unittest
from types import ModuleType

from tests.stdlib import suites
from tests.stdlib.suites import Exclusion, Why

TITLE = "concurrent.futures.ProcessPoolExecutor → andon's: test.test_concurrent_futures"
_D, _P = Why.DIFFERENCE, Why.PRIVATE
_ALONE = "BrokenProcessPool; what cannot travel fails its task alone, with a SerializationError"
_PROCESSES = "_processes: how many there are, and of what class"
EXCLUDED = (
    # What breaks there
    Exclusion("*DeadlockTest.test_error_at_task_unpickle", _D, _ALONE),
    Exclusion("*DeadlockTest.test_exit_at_task_unpickle", _D, _ALONE),
    Exclusion("*DeadlockTest.test_*_during_result_unpickle_in_result_handler", _D, _ALONE),
    Exclusion(
        "*DeadlockTest.test_exit_during_func_exec_on_worker", _D, "SystemExit; a TaskExitError"
    ),
    Exclusion(
        "*DeadlockTest.test_exit_during_result_pickle_on_worker",
        _D,
        "SystemExit; a SerializationError, as for any other error of the pickling",
    ),
    # What stops here
    Exclusion(
        "*ExecutorTest.test_map_exception",
        _D,
        "the results before the failure; it may have stopped the tasks that compute them",
    ),
    Exclusion(
        "*ShutdownTest.test_cancel_futures",
        _D,
        "a call that ends well: there what waits in a queue counts as running; here all may be "
        "cancelled",
    ),
    Exclusion(
        "*ShutdownTest.test_submit_after_interpreter_shutdown",
        _D,
        "RuntimeError; a call at exit is run",
    ),
    # Insides
    Exclusion("*FailingInitializerTest.test_initializer", _P, "_broken"),
    Exclusion(
        "FailingInitializerResourcesTest.*",
        _P,
        "runs that test once more",
        methods=("forkserver", "spawn"),
        come_late=True,
    ),
    Exclusion("*ExecutorTest.test_killed_child", _P, "_processes, to kill one"),
    Exclusion("*ExecutorTest.test_saturation", _P, _PROCESSES),
    Exclusion("*ExecutorTest.test_idle_process_reuse_*", _P, _PROCESSES),
    Exclusion("*ExecutorTest.test_max_tasks_per_child", _P, _PROCESSES),
    Exclusion("*ShutdownTest.test_processes_terminate", _P, _PROCESSES),
    Exclusion("*ShutdownTest.test_context_manager_shutdown", _P, _PROCESSES),
    Exclusion("*ShutdownTest.test_del_shutdown", _P, "_executor_manager_thread, _call_queue"),
    Exclusion("*ShutdownTest.test_shutdown_no_wait", _P, "_executor_manager_thread, _call_queue"),
    Exclusion("*DeadlockTest.test_shutdown_deadlock_pickle", _P, "_executor_manager_thread"),
    Exclusion(
        "*ExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context", _P, "_mp_context"
    ),
    Exclusion("*ExecutorTest.test_traceback", _P, "the class _RemoteTraceback"),
    Exclusion(
        "*ExecutorTest.test_python_finalization_error",
        _P,
        "BrokenProcessPool where the standard executor's second thread cannot start",
        come_late=True,
    ),
)
_PACKAGE = "test.test_concurrent_futures"


def missing() -> str:
    """Why they cannot be run here; empty where they can."""
    if importlib.util.find_spec(_PACKAGE) is None:
        return f"this Python comes without {_PACKAGE}"
    return ""


def substitute() -> None:
    """`concurrent.futures` looks its class up in the module `process`."""
    import concurrent.futures.process

    import andon

    concurrent.futures.process.ProcessPoolExecutor = andon.ProcessPoolExecutor  # type: ignore
    concurrent.futures.ProcessPoolExecutor = andon.ProcessPoolExecutor  # type: ignore


def tests(method: str) -> unittest.TestSuite:
    """Those of process pools under one start method, by the names of their classes, or of the test
    itself. The others are about thread pools, and about futures that nobody runs."""
    wanted = re.compile(
        f"(?i)ProcessPool{method}(?!server)|FailingInitializerResourcesTest\\.test_{method}$"
    )
    chosen = unittest.TestSuite()
    for module in _modules():
        for test in suites.flat(unittest.TestLoader().loadTestsFromModule(module)):
            if wanted.match(suites.short_name(test)):
                chosen.addTest(test)
    return chosen


def _modules() -> list[ModuleType]:
    top = importlib.import_module(_PACKAGE)
    if not hasattr(top, "__path__"):
        return [top]  # before Python 3.12
    names = [each.name for each in pkgutil.iter_modules(top.__path__)]
    tests = [name for name in names if name.startswith("test_")]
    return [importlib.import_module(f"{_PACKAGE}.{name}") for name in tests]
