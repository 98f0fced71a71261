"""The worker of `tests/portable.py`: mechanisms that only Linux has are put out of use first."""

from __future__ import annotations

from typing import NoReturn

from andon._worker import boot, channel, children, posix


def main() -> NoReturn:
    posix._arm = lambda fd: False
    children.living = set
    channel._read_into, channel._write = channel.read_copying, channel.write_first
    boot.main()
