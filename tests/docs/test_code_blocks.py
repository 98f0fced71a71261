"""Every code block of README.md and docs/ runs, as a reader would run it.

- ```python: all blocks of a page are one script, and each stands in the line in which it stands on
  the page. It must come to its end, with status 0. There is no way to exempt a block: code that
  cannot run does not belong there.
  A block whose first line is a comment with a file name (`# work.py`) is also saved under it.
- ```console: its lines that start with `$ andon` are run in order, where such files have been
  saved (and where `examples` is that of the project). They must end with status 0, unless the
  block says `# exit status N` on a line of its own after the command. Output is not compared.
- Other languages, and blocks without one, are not run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import run, run_python

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
FILE_NAME = re.compile(r"^# (?P<name>[\w-]+\.py)$")
END = "the-end-was-reached"
EXIT_STATUS = re.compile(r"^# exit status (?P<status>\d+)$")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    extra: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    text: str
    status: int


def blocks(page: str, text: str) -> Iterator[Block]:
    """The fenced code blocks of a page, in order."""
    start, fence, indent, info = 0, "", 0, ""
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if not fence:
            if match:
                start, fence, info = number, match["fence"], match["info"].strip()
                indent, body = len(match["indent"]), []
        elif match and match["fence"].startswith(fence) and not match["info"].strip():
            language, _, extra = info.partition(" ")
            yield Block(page, start, language, extra.strip(), "\n".join(body) + "\n")
            fence = ""
        else:
            body.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    assert not fence, f"{page}:{start}: this block is never closed"


def commands(block: Block) -> list[Command]:
    """The `$ andon` lines of a console block, and the status that each is shown to end with."""
    found: list[Command] = []
    watched = False  # does the latest command interest us?
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            while line.endswith("\\"):
                line = line[:-1] + next(lines).removeprefix(">").lstrip()
            watched = line.split()[1:2] == ["andon"]
            if watched:
                found.append(Command(line[2:], 0))
        elif watched and (match := EXIT_STATUS.match(line)):
            found[-1] = Command(found[-1].text, int(match["status"]))
    return found


def script(page: list[Block]) -> str:
    """The python blocks of a page, each where it stands, so that a traceback leads there."""
    lines: list[str] = []
    for each in page:
        if each.language == "python":
            lines += [""] * (each.line - len(lines))
            lines += each.text.splitlines()
    return "\n".join(lines) + "\n"


def save_named_files(page: list[Block], where: Path) -> None:
    for each in page:
        match = FILE_NAME.match(each.text.partition("\n")[0])
        if each.language == "python" and match:
            (where / match["name"]).write_text(each.text)
    if (ROOT / "examples").is_dir():
        (where / "examples").symlink_to(ROOT / "examples")


def check_python(page: list[Block], where: Path, timeout: float = 90) -> None:
    for block in page:
        if block.language == "python":
            assert not block.extra, f"{block}: `{block.extra}` exempts nothing: every block runs"
    save_named_files(page, where)
    path = where / "page.py"
    path.write_text(script(page) + f"\nopen({END!r}, 'x').close()\n")
    done = run_python([path], cwd=where, timeout=timeout)
    told = f"{page[0].page} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0 and (where / END).exists(), told


def check_console(block: Block, page: list[Block], where: Path, timeout: float = 60) -> None:
    save_named_files(page, where)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    for command in commands(block):
        done = run(["sh", "-c", command.text], cwd=where, timeout=timeout, env={"PATH": path})
        assert done.returncode == command.status, (
            f"{block}: {command.text}\nended with {done.returncode}, not {command.status}\n"
            f"{done.stdout}{done.stderr}"
        )


def read(path: Path) -> list[Block]:
    if not path.exists():
        return []
    return list(blocks(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))


def console_blocks() -> list[object]:
    return [
        pytest.param(block, page, id=str(block))
        for page in map(read, PAGES)
        for block in page
        if block.language == "console"
    ]


def pages() -> list[object]:
    found = map(read, PAGES)
    return [pytest.param(page, id=page[0].page) for page in found if script(page).strip()]


@pytest.mark.parametrize("page", pages())
def test_the_python_blocks_of_a_page(page: list[Block], tmp_path: Path) -> None:
    check_python(page, tmp_path)


@pytest.mark.parametrize(("block", "page"), console_blocks())
def test_console_block(block: Block, page: list[Block], tmp_path: Path) -> None:
    check_console(block, page, tmp_path)


def test_there_is_something_to_run() -> None:
    assert pages(), "no python block found in README.md and docs/"


# The reader itself ------------------------------------------------------------------------------

PAGE = """\
# Title

```python
# work.py
x = 1
```

- in a list:

  ```python
  if x:
      print(x)
  ```

```text
not run
```

````python no-run
raise SystemExit(3)
````

```console
$ ls | head
# exit status 9
$ andon run \\
>   work.py:f a
a: failed
# exit status 1
$ andon --version
```
"""


@pytest.fixture
def page() -> list[Block]:
    return list(blocks("page.md", PAGE))


def test_blocks_are_found(page: list[Block]) -> None:
    assert [(each.line, each.language, each.extra) for each in page] == [
        (3, "python", ""),
        (10, "python", ""),
        (15, "text", ""),
        (19, "python", "no-run"),
        (23, "console", ""),
    ]
    assert page[1].text == "if x:\n    print(x)\n"
    assert script(page[:2]).splitlines()[2:] == [
        "",
        "# work.py",
        "x = 1",
        *[""] * 5,
        "if x:",
        "    print(x)",
    ]


def test_commands_are_found_with_their_status(page: list[Block]) -> None:
    assert commands(page[4]) == [
        Command("andon run work.py:f a", 1),
        Command("andon --version", 0),
    ]


def test_a_block_runs_after_the_earlier_ones_and_may_fail(
    page: list[Block], tmp_path: Path
) -> None:
    check_python(page[:2], tmp_path)
    assert (tmp_path / "work.py").read_text() == "# work.py\nx = 1\n"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(AssertionError, match=r"ended with 1(.|\n)*line 11(.|\n)*NameError"):
        check_python(page[1:2], elsewhere)


def test_a_block_cannot_end_the_script_before_the_others(tmp_path: Path) -> None:
    page = list(blocks("page.md", "```python\nraise SystemExit(0)\n```\n```python\n1 / 0\n```\n"))
    with pytest.raises(AssertionError, match="ended with 0"):
        check_python(page, tmp_path)


def test_a_block_cannot_be_exempted(page: list[Block], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="every block runs"):
        check_python(page, tmp_path)


def test_a_wrong_exit_status_is_found(tmp_path: Path) -> None:
    (tmp_path / "andon").write_text("#!/bin/sh\nexit 4\n")
    (tmp_path / "andon").chmod(0o755)
    block = Block("page.md", 1, "console", "", "$ andon run\n# exit status 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(AssertionError, match="ended with 4, not 1"):
            check_console(block, [], tmp_path)


def test_a_block_that_is_never_closed_is_found() -> None:
    with pytest.raises(AssertionError, match=r"page\.md:2: this block is never closed"):
        list(blocks("page.md", "text\n```python\nx = 1\n"))
