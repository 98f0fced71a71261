"""A task for `andon run`: parse one Python file.

andon run examples/parse_file.py:parse_file some.py other.py
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path


def parse_file(path: str) -> int:
    """How many statements stand at the top level of this file; SyntaxError if it is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files with odd escapes are not our news
        return len(ast.parse(Path(path).read_bytes(), filename=path).body)
