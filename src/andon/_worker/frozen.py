"""Frozen applications: an executable that is its own interpreter, and knows no `-c`.

What shall be started is asked for by a word on the command line; `freeze_support`, which the
application calls first thing, obeys.
"""

from __future__ import annotations

import sys

MARK = "--andon-start"
_ENTRIES = ("andon._worker.boot", "andon._worker.template")

_called = False


def freeze_support() -> None:
    """Let a frozen application (PyInstaller, cx_Freeze and the like) have workers.

    Call it first thing in the main module, before anything that takes time or has an effect:

    ```python
    if __name__ == "__main__":
        andon.freeze_support()
    ```

    Workers, and the process that starts them, are the application itself, started anew; there it
    never returns. In the application's own process, and where nothing is frozen, it does nothing.
    """
    global _called
    if not is_frozen():
        return
    if sys.argv[1:2] == [MARK]:
        module = sys.argv[2]
        if module not in _ENTRIES:
            raise SystemExit(f"{MARK} is andon's own, and cannot start {module!r}")
        del sys.argv[1:3]
        import importlib

        importlib.import_module(module).main()
    _called = True


def is_frozen() -> bool:
    """Is this process such an application?"""
    return bool(getattr(sys, "frozen", False))


def check_support() -> None:
    """Refuse to start an application that would not know what it is started for: it would do its
    own work once more, and start others in its turn."""
    if not _called:
        hint = " (or open the pool with start_method='fork')" if sys.platform == "linux" else ""
        raise RuntimeError(
            "this is a frozen application, and its workers are started as the application itself: "
            f"call andon.freeze_support() first thing in its main module{hint}"
        )
