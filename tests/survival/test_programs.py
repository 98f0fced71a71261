"""However a program is started, it works without a guard, and never starts itself again (S42).

A program notes each time that its top level runs: once, and never in a worker. What belongs to its
`__main__` travels by value, and instances come back as instances of the parent's own class.
"""

from __future__ import annotations

import importlib.util
import os
import pty
import re
import select
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import _environment, _kill_session, run_python

WORKERS = 2

# Blank lines only where a block ends: it must make sense to a prompt, too.
TOP = """\
import os, sys
_fd = os.open(os.environ["ANDON_TEST_RUNS"], os.O_WRONLY | os.O_APPEND)
_ = os.write(_fd, b"top %d\\n" % os.getpid())
os.close(_fd)
import andon
METHOD = os.environ["ANDON_TEST_METHOD"]
FACTOR = 3
class Point:
    count = 0
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

class Wrong(Exception):
    pass

def triple(x):
    return FACTOR * x

def move(point):
    return Point(point.x + 1)

def adder(n):
    def add(x):
        return triple(x) + n
    return add

def fail(x):
    raise Wrong(x)

def say_pid(_):
    return os.getpid()

"""
BODY = """\
results = []
results.append(andon.map(triple, range(5), workers=2, start_method=METHOD) == [0, 3, 6, 9, 12])
pool = andon.Pool(2, start_method=METHOD)
moved = pool.map(move, [Point(1), Point(2)])
results.append(moved == [Point(2), Point(3)] and all(type(p) is Point for p in moved))
results.append(pool.map(lambda x: x * FACTOR, range(3)) == [0, 3, 6])
results.append(pool.map(adder(10), range(3)) == [10, 13, 16])
results.append(list(pool.imap(adder(1), iter(range(3)))) == [1, 4, 7])
error = None
try:
    pool.map(fail, [5])
except Wrong as e:
    error = e

results.append(type(error) is Wrong and error.args == (5,))
seen = set(pool.map(say_pid, range(20), chunksize=1))
results.append(len(seen) <= 2 and os.getpid() not in seen)
results.append(type(pool.apply(lambda: Point(9))) is Point)
pool.terminate()
print("RESULTS", all(results), len(results), results, flush=True)
"""
GUARDED = (
    TOP
    + 'if __name__ == "__main__":\n'
    + "".join(f"    {line}\n" if line else "\n" for line in BODY.splitlines())
)
PROGRAMS = {"guarded": GUARDED, "unguarded": TOP + BODY}


@pytest.fixture
def env(start_method: str, tmp_path: Path) -> dict[str, str]:
    runs = tmp_path / "runs"
    runs.touch()
    return {"ANDON_TEST_RUNS": str(runs), "ANDON_TEST_METHOD": start_method}


def check(out: str, err: str, env: dict[str, str], *, told: bool = True) -> None:
    lines = [line for line in out.splitlines() if "RESULTS" in line and "print" not in line]
    assert len(lines) == 1, out + err
    assert "RESULTS True 8 " in lines[0], out + err
    if told:
        assert "Traceback" not in err and "Error" not in err, err
    runs = Path(env["ANDON_TEST_RUNS"]).read_text().splitlines()
    assert len(runs) == 1, f"the program has run {len(runs)} times: {runs}"


@pytest.mark.parametrize("guard", PROGRAMS)
@pytest.mark.parametrize("how", ["script", "-c", "-m", "package", "stdin", "zip"])
def test_a_program(env: dict[str, str], tmp_path: Path, how: str, guard: str) -> None:
    text = PROGRAMS[guard]
    place = tmp_path / "place"
    place.mkdir()
    stdin = None
    if how == "script":
        (place / "program.py").write_text(text)
        arguments = ["program.py"]
    elif how == "-c":
        arguments = ["-c", text]
    elif how == "-m":
        (place / "some_program.py").write_text(text)
        arguments = ["-m", "some_program"]
    elif how == "package":
        (place / "some_package").mkdir()
        (place / "some_package" / "__init__.py").write_text("")
        (place / "some_package" / "__main__.py").write_text(text)
        arguments = ["-m", "some_package"]
    elif how == "stdin":
        arguments, stdin = ["-"], text
    else:
        with zipfile.ZipFile(place / "program.zip", "w") as file:
            file.writestr("__main__.py", text)
        arguments = ["program.zip"]
    result = run_python(arguments, cwd=place, env=env, stdin=stdin)
    check(result.stdout, result.stderr, env)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("how", ["script", "-m"])
def test_a_program_that_fails_at_its_top_level(
    env: dict[str, str], tmp_path: Path, how: str
) -> None:
    """A worker that would run it again would fail again, and again."""
    text = (
        TOP + 'andon.map(fail, range(100), workers=2, start_method=METHOD)\nprint("not reached")\n'
    )
    (tmp_path / "failing.py").write_text(text)
    arguments = ["failing.py"] if how == "script" else ["-m", "failing"]
    result = run_python(arguments, cwd=tmp_path, env=env)
    assert result.returncode == 1 and "not reached" not in result.stdout
    assert result.stderr.splitlines()[-1].startswith(("Wrong: ", "__main__.Wrong: ", "task ")) or (
        "Wrong: " in result.stderr
    )
    assert Path(env["ANDON_TEST_RUNS"]).read_text().count("top") == 1


def test_a_script_that_is_gone(env: dict[str, str], tmp_path: Path) -> None:
    """Nobody looks for it again."""
    script = tmp_path / "program.py"
    script.write_text("import os\nos.unlink(__file__)\n" + TOP + BODY)
    result = run_python([script], env=env)
    check(result.stdout, result.stderr, env)


def test_a_program_that_changes_directory(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def work(x): return x + 1\n")
    (tmp_path / "else").mkdir()
    (tmp_path / "program.py").write_text(
        "import os, sys\n"
        "os.chdir('else')\n"
        "import andon, beside\n"
        "method = os.environ['ANDON_TEST_METHOD']\n"
        "print(andon.map(beside.work, range(3), workers=2, start_method=method))\n"
        "print(set(andon.map(lambda _: os.getcwd(), range(3), workers=2, start_method=method)))\n"
        "print(andon.map(lambda _: sys.argv, range(1), workers=2, start_method=method))\n"
    )
    result = run_python(["program.py", "an argument"], cwd=tmp_path, env=env)
    assert result.stdout.splitlines() == [
        "[1, 2, 3]",
        f"{{{str(tmp_path / 'else')!r}}}",
        "[['program.py', 'an argument']]",
    ], result.stderr


# Prompts -----------------------------------------------------------------------------------------


def test_interactive_from_a_pipe(env: dict[str, str]) -> None:
    result = run_python(["-i", "-q"], env=env, stdin=TOP + BODY + "exit()\n")
    check(result.stdout, result.stderr, env)
    assert result.returncode == 0


def test_interactive_after_a_script(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(TOP)
    result = run_python(["-i", tmp_path / "program.py"], env=env, stdin=BODY + "exit()\n")
    check(result.stdout, result.stderr, env)


@pytest.mark.parametrize("basic", [True, False], ids=["basic", "own"])
def test_at_the_prompt(env: dict[str, str], basic: bool) -> None:
    """A real terminal; from 3.13 on, the prompt written in Python as well."""
    if not basic and sys.version_info < (3, 13):
        pytest.skip("this Python has one prompt only")
    env = {**env, "TERM": "xterm", "PYTHON_COLORS": "0"}
    if basic:
        env["PYTHON_BASIC_REPL"] = "1"
    entries = (TOP + BODY).splitlines() if basic else pasted(TOP + BODY)
    out = at_a_terminal([sys.executable, "-q"], entries, env)
    check(out, out, env, told=False)
    assert "Traceback" not in out


def test_ipython(env: dict[str, str], tmp_path: Path) -> None:
    if importlib.util.find_spec("IPython") is None:
        pytest.skip("IPython is not installed in this interpreter")
    env = {**env, "IPYTHONDIR": str(tmp_path / "ipython"), "HOME": str(tmp_path)}
    cell = tmp_path / "cell.ipy"
    cell.write_text(TOP + BODY)
    result = run_python(
        ["-m", "IPython", "--no-banner", "--simple-prompt", "--colors=NoColor", cell], env=env
    )
    check(result.stdout, result.stderr, env)


def pasted(text: str) -> list[str]:
    """Statement by statement, as pasted: typed lines would be indented by the prompt as well."""
    statements: list[list[str]] = []
    for line in text.splitlines():
        if not line:
            continue
        if line.startswith((" ", "except")):
            statements[-1].append(line)
        else:
            statements.append([line])
    entries = []
    for lines in statements:
        end = "\r" if len(lines) > 1 else ""  # a blank line ends a block
        entries.append("\x1b[200~" + "\n".join(lines) + "\x1b[201~" + end)
    return entries


def at_a_terminal(command: list[str], entries: list[str], env: dict[str, Any]) -> str:
    """Enter one after the other, each once the prompt is there; what the terminal shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**_environment(), **env},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60

    def read_until(done: Any) -> None:
        nonlocal shown
        while not done():
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, shown.decode(errors="replace")
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other side has gone
                return
            shown += chunk
            if b"\x1b[6n" in chunk:
                os.write(ours, b"\x1b[1;1R")  # where the cursor is

    try:
        read_until(lambda: b">>> " in shown)
        for entry in entries:
            before = len(shown)
            os.write(ours, entry.encode() + b"\r")
            if entry is entries[-1]:
                break
            # The echo, then the next prompt.
            read_until(
                lambda before=before: (
                    shown[before:].count(b">>> ") + shown[before:].count(b"... ") > 0
                    and b"\n" in shown[before:]
                )
            )
        # The whole line: what is typed before its end would be echoed into it.
        read_until(lambda: re.search(rb"RESULTS (True|False)[^\n]*\n", shown))
        os.write(ours, b"exit()\r")
        read_until(lambda: process.poll() is not None)
        process.wait(20)
    finally:
        if process.poll() is None:
            _kill_session(process.pid)
            process.wait()
        os.close(ours)
    return shown.decode(errors="replace")
