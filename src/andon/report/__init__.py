"""Readers of what a group does: none of them touches the machine (S48)."""

from __future__ import annotations

from andon.report.bar import bar
from andon.report.progress import Progress, Reporter
from andon.report.reporters import reporter_for

__all__ = ["Progress", "Reporter", "bar", "reporter_for"]
