"""`concurrent.futures.ProcessPoolExecutor`: `test.test_concurrent_futures`, one module or many."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import unittest
from types import ModuleType

from tests.stdlib import suites
from tests.stdlib.suites import Exclusion

TITLE = "concurrent.futures.ProcessPoolExecutor → andon's: test.test_concurrent_futures"
EXCLUDED: tuple[Exclusion, ...] = ()
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
    """Those of process pools under one start method, by the names of their classes."""
    wanted = re.compile(f"(?i)ProcessPool{method}(?!server)")
    chosen = unittest.TestSuite()
    for module in _modules():
        for test in suites.flat(unittest.TestLoader().loadTestsFromModule(module)):
            if wanted.match(type(test).__name__):
                chosen.addTest(test)
    return chosen


def _modules() -> list[ModuleType]:
    top = importlib.import_module(_PACKAGE)
    if not hasattr(top, "__path__"):
        return [top]  # before Python 3.12
    names = [each.name for each in pkgutil.iter_modules(top.__path__)]
    tests = [name for name in names if name.startswith("test_")]
    return [importlib.import_module(f"{_PACKAGE}.{name}") for name in tests]
