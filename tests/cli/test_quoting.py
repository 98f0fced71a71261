"""Where an item may stand in a shell command, and where its quotes would not hold."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from andon.cli.command import ShellCommand
from andon.cli.quoting import wrong_place
from tests.cli.command import andon

PULLS = [
    "$(touch PWNED)",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "`touch PWNED`",
    "\ntouch PWNED\n",
]
"""Items that are run where their quotes do not hold."""

HELD = [
    "cat {}",
    "cat {}.txt a'b'{}\"c\"",
    r"cat \\{} \'{} \"{}",
    "awk '{print}' {}",
    'cat "it\'s" {} \'"\' {}',
    'cat "a \\" b" {}',
    'cat "$(cat {})" {} "$(cat "$(cat {})")"',
    'cat "${HOME}/x" {} ${x:-y} {}',
    'cat "`cat \\"x\\"`" {}',
    "cat $((1 + (2 * 3))) {} \"$((1 + 2))\" {}",
    "cat $'a b' {}",
    "cat x#'y' {} # don't\ncat {}",
    "cat \\ #'y' {}",
    "(cd .; cat {}); { cat {}; }",
    "case {} in a) cat {};; esac; cat {}",
    "cat <<E >{}\nx\nE\n",
    "cat <<<{}",
]  # fmt: skip

LOOSE = [
    ("cat '{}'", "inside single quotes"),
    ("cat 'a {} b'", "inside single quotes"),
    ("awk '{print \"{}\"}'", "inside single quotes"),
    ("cat $'{}'", "inside single quotes"),
    ("cat \\\\'{}'", "inside single quotes"),
    ("cat # don't\ncat '{}'", "inside single quotes"),
    ("cat \\ #'\n{}'", "inside single quotes"),
    ('cat "{}"', "inside double quotes"),
    ('cat "a {} b"', "inside double quotes"),
    ('cat "\\{}"', "inside double quotes"),
    ('cat "$(cat "{}")"', "inside double quotes"),
    ('cat {} "$(date) {}"', "inside double quotes"),
    ('cat "`date`{}"', "inside double quotes"),
    ('cat "{}', "inside double quotes"),
    ('cat "$$({})"', "inside double quotes"),
    ("cat `cat {}`", "inside backquotes"),
    ('cat "`cat {}`"', "inside backquotes"),
    ("cat ${}", "inside ${...}"),
    ("cat ${x:-{}}", "inside ${...}"),
    ('cat "${x:-{}}"', "inside ${...}"),
    ("cat $((1 + {}))", "inside arithmetic"),
    ("cat $[1 + {}]", "inside arithmetic"),
    ("cat \\{}", "after a backslash"),
    ("cat x # {}", "in a comment"),
    ("cat <<E\n{}\nE\n", "behind cat <<E"),
    ('cat <<E"$(" {}', "behind cat <<"),
    ("cat $'it\\'s' '{}'", "behind cat $'it\\'"),
    ('cat "$(case a in a) cat "{}";; esac)"', 'behind cat "$(case'),
    ('cat "${x:-"y"}" "{}"', 'behind cat "${x:-"y"}'),
    ("cat $(true)#'\n{}'", "behind cat $(true)#"),
    ("cat $((cat) | cat '{}')", "behind cat $(("),
]


@pytest.mark.parametrize("command", HELD)
def test_where_an_item_holds(command: str, tmp_path: Path) -> None:
    assert wrong_place(command) is None
    for shell in filter(shutil.which, ("bash", "dash", "zsh", "ksh", "mksh", "yash")):
        for item in PULLS:
            line = ShellCommand(command, shell).line(item)
            subprocess.run(
                [shell, "-c", line], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True
            )
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(("command", "place"), LOOSE)
def test_where_an_item_would_not_hold(command: str, place: str) -> None:
    found = wrong_place(command)
    assert found is not None and found.startswith(place)


@pytest.mark.parametrize("command", ["wc -c '{}'", 'wc -c "{}"', 'wc -c "', "wc -c # x"])
def test_such_a_command_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / PULLS[0]).touch()
    done = andon("run", command, PULLS[0], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("andon: error: ") and done.stderr.count("\n") == 1
    assert "an item is quoted already" in done.stderr
    assert not (tmp_path / "PWNED").exists()
