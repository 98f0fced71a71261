"""Our end of the template, the process that starts workers on Linux (see `andon._worker.template`).

`connect(method)` gives an engine a link of its own: to a fork of this process made now (`fork`,
one per pool), or to the one fresh interpreter per start method, started when first needed, kept
warm, and ended at exit or by `close_idle()`.

Invariants
 1. Nothing here waits for a template, except `end` and `close_idle`, which are bounded (S21).
 2. While we fork, `before_fork_hooks` have paused our own threads; they run again afterwards,
    whatever happened.
 3. A template is ours alone: a forked child of this process knows none.
"""

from __future__ import annotations

import atexit
import marshal
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

assert sys.platform == "linux"

from andon._engines.local import descriptors
from andon._engines.local.link import Link
from andon._engines.local.template_process import Template, pair
from andon._gate import uninterrupted
from andon._locks import make_lock
from andon._worker import messages
from andon._worker import template as far
from andon._worker.inherited import inherited

# The runtime's: pause and resume its threads around the fork of this process.
before_fork_hooks: list[Callable[[], None]] = []
after_fork_hooks: list[Callable[[], None]] = []

END_WITHIN = 1.0

_lock = make_lock()
_shared: dict[str, Template] = {}
_exiting = False


def connect(
    method: str,
    inherit: Mapping[int, Any] | None = None,
    before_fork: Callable[[], None] | None = None,
) -> Link:
    """A link to a template for this start method; raises OSError where there can be none.

    `inherit`: objects that a forked template takes along; `before_fork` is run right before.
    """
    if method == "fork":
        return _fork(inherit or {}, before_fork)
    with _lock:
        for again in (True, False):
            template = _shared.get(method)
            if template is None or not template.alive():
                if template is not None:
                    descriptors.close(template.root)
                template = _shared[method] = _start(method)
            ours, theirs = pair()
            try:
                messages.send(template.root, marshal.dumps(("connect",)), (theirs,))
            except OSError:
                descriptors.close(ours)
                del _shared[method]
                template.end(0.0)  # it has hung up, or hangs
                if not again:
                    raise
                continue
            finally:
                descriptors.close(theirs)
            template.links += 1
            return Link(template, ours, _let_go)
        raise AssertionError("unreachable")


def _start(method: str) -> Template:
    template = Template.fresh(method)
    if method == "forkserver":  # it has much to load
        try:
            template.start()
        except BaseException:
            template.end(0.0)
            raise
    return template


def _let_go(template: Template) -> None:
    """A link of it was closed."""
    with _lock:
        template.links -= 1
        idle = _exiting and template.links <= 0 and template.method != "fork"
    if idle:
        _end_all([template], END_WITHIN)


def prepare(method: str) -> None:
    """Start the template that `connect` will want, if there is none: it takes a while."""
    if method != "fork":
        with _lock, suppress(OSError):  # `connect` meets it, too
            template = _shared.get(method)
            if template is None:
                _shared[method] = _start(method)


def close_idle(within: float = END_WITHIN) -> bool:
    """End the shared templates that no pool uses. Waits; True when they are gone."""
    with _lock:
        idle = [m for m, t in _shared.items() if t.links <= 0]
        templates = [_shared.pop(m) for m in idle]
    return _end_all(templates, within)


def _end_all(templates: list[Template], within: float) -> bool:
    deadline = time.monotonic() + within
    for template in templates:
        descriptors.close(template.root)
    ended = [t.end(max(0.0, deadline - time.monotonic())) for t in templates]
    return all(ended)


def _fork(inherit: Mapping[int, Any], before_fork: Callable[[], None] | None) -> Link:
    """A fork of this process. Its one socket is both its root and the link."""
    # A child must not import what a thread of ours may be importing right now.
    far.preload(all_of_it=len(sys._current_frames()) > 1)
    _flush()
    for hook in before_fork_hooks:
        hook()
    try:
        with descriptors.guard:  # so that no other fork takes their end along
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            descriptors.keep(ours)
            try:
                inherited.update(inherit)
                if before_fork is not None:
                    before_fork()
                held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                try:
                    pid = os.fork()
                    if not pid:
                        far.serve(theirs, "fork", [])
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, held)
            except BaseException:
                descriptors.close(ours)
                raise
            finally:
                theirs.close()
                for key in inherit:
                    inherited.pop(key, None)
    finally:
        for hook in after_fork_hooks:
            hook()
    template = Template("fork", ours, pid=pid)
    template.links = 1
    return Link(template, ours, _let_go)


def _flush() -> None:
    # What the program has printed and not yet flushed must not be printed again by workers.
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _at_exit() -> None:
    # Exit handlers run in an order that we do not choose: a template that still serves a pool is
    # ended by the last link's close.
    global _exiting
    _exiting = True
    with uninterrupted:
        close_idle()


def _after_fork_in_child() -> None:
    global _lock
    _lock = make_lock()
    _shared.clear()


# Here, where a program expects to wait for imports, and not when its first pool is opened.
far.preload(all_of_it=False)
atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
