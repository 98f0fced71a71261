"""The benchmarks run: at sizes for a quick look, beside the standard library. No time is judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import run_python

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks are for Linux")


def run_module(*arguments: object) -> None:
    done = run_python(["-m", *map(str, arguments)], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rows_curves_and_the_page_are_made(tmp_path: Path) -> None:
    result, grown = tmp_path / "result.json", tmp_path / "grown.json"
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    libraries = ("andon", "multiprocessing.Pool")
    for row in ("round-trip", "bulk-map"):  # the second run keeps what the first one has written
        run_module("benchmarks", row, "--quick", "--add", "--json", result, "--libs", *libraries)
    run_module("benchmarks.growth", "machine-tasks", "--quick", "--json", grown)
    files = ("--page", page, "--picture", picture)
    run_module("benchmarks.page", result, "--growth", grown, *files)

    told = json.loads(result.read_text())
    assert [row["name"] for row in told["rows"]] == ["bulk-map", "round-trip"]
    for row in told["rows"]:
        for library in libraries:
            cell = row["cells"][library]
            assert cell["error"] is None
            assert all(len(values) == 1 and values[0] > 0 for values in cell["values"].values())
    # But for those against the executor, which took no part.
    measured = {figure["what"]: figure["measured"] is not None for figure in told["figures"]}
    assert measured == {what: "Executor" not in what for what in measured}
    assert len(measured) == 5
    text = page.read_text()
    assert "round-trip: p50" in text
    assert "machine-tasks: time per event" in text
    dots = [each for each in ElementTree.parse(picture).iter() if each.tag.endswith("circle")]
    assert len(dots) == 4  # two rows, two libraries
