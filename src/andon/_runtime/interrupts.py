"""Ctrl-C (S32): workers ignore SIGINT, the parent alone decides.

While a scope of ours is open in the main thread, our handler stands in for Python's default one
(never for a handler that the program has set). In user code it raises `KeyboardInterrupt` as ever;
inside library code, where an exception could leave a lock held, it leaves a note and wakes the
drivers, and the scope raises once all is over. The second Ctrl-C kills at once.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from andon._gate import gate
from andon._runtime import registry


class InterruptBridge:
    """Main thread only; `enter` and `leave` pair up around each scope."""

    def __init__(self) -> None:
        self.count = 0  # since the outermost scope was entered
        self.pending = False
        self._depth = 0
        self._installed = False

    def enter(self) -> bool:
        """A scope opens; False where it is not in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return False
        if self._depth == 0:
            self.count = 0
            self.pending = False
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._on_sigint)
                self._installed = True
        self._depth += 1
        return True

    def leave(self) -> None:
        """A scope is over."""
        self._depth = max(0, self._depth - 1)
        if self._depth == 0 and self._installed:
            self._installed = False
            if signal.getsignal(signal.SIGINT) == self._on_sigint:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def forget(self) -> None:
        """In a forked child: the scopes that are open are its parent's."""
        self._depth = 0
        self.pending = False

    def consume(self) -> bool:
        """Was there a Ctrl-C that has not been raised yet? It is the caller's now."""
        pending, self.pending = self.pending, False
        return pending

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        if gate.depth == 0:
            if self.count > 1:
                self._tell()
            raise KeyboardInterrupt
        self.pending = True
        gate.deferred = self._raise_pending
        self._tell()

    def _tell(self) -> None:
        for runtime in registry.runtimes():
            runtime.interrupt(self.count)

    def _raise_pending(self) -> None:
        if self.consume():
            raise KeyboardInterrupt


bridge = InterruptBridge()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=bridge.forget)
