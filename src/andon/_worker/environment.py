"""Environment variables of a pool's own, set by an initializer before any library reads them."""

from __future__ import annotations

import os


def put(variables: dict[str, str]) -> None:
    """Set them in this worker."""
    os.environ.update(variables)
