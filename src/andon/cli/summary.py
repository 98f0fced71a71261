"""What a run says at its end, on standard error: what failed, why, and the counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from andon._words import as_text
from andon.cli.results import HEADER, error_message, error_type, remote_traceback
from andon.cli.shell import CommandError, ended
from andon.outcome import Outcome, Reason, ReasonKind, TaskState

SHOWN = 5
"""Failures that are told in full."""

FRAMES = 4
LINES = 12
WIDTH = 100


@dataclass(slots=True)
class Tally:
    """Counts, and the first few failures; what else there was is in the results file."""

    done: int = 0
    failed: int = 0
    stopped: int = 0
    never_started: int = 0
    unread: bool = False
    failures: list[tuple[Outcome, str]] = field(default_factory=list)
    clean_ups: list[tuple[Outcome, str]] = field(default_factory=list)

    def add(self, outcome: Outcome, item: str) -> None:
        """Count one outcome."""
        if outcome.state is TaskState.SUCCEEDED:
            self.done += 1
        elif outcome.state is TaskState.FAILED:
            self.failed += 1
            if len(self.failures) < SHOWN:
                self.failures.append((outcome, item))
        elif outcome.started is False:
            self.never_started += 1
        else:
            self.stopped += 1
        if outcome.cleanup_error is not None and len(self.clean_ups) < SHOWN:
            self.clean_ups.append((outcome, item))

    def counts(self) -> str:
        """`3 done, 1 failed, 2 stopped, 4 never started`."""
        text = (
            f"{self.done} done, {self.failed} failed, {self.stopped} stopped, "
            f"{self.never_started} never started"
        )
        return f"{text}; the input was not read to its end" if self.unread else text


def summary(
    tally: Tally,
    reason: Reason | None,
    problems: list[BaseException],
    *,
    signalled: str | None,
    seconds: float,
    output: str | None,
) -> str:
    """The text, one line or many. `problems` are errors that belong to no item."""
    lines: list[str] = []
    source = reason.source if reason is not None else None
    # The one that stopped the line comes first.
    for outcome, item in sorted(tally.failures, key=lambda f: f[0].index != source):
        lines += failure(outcome, item)
    more = tally.failed - len(tally.failures)
    if more > 0:
        where = f"; see {output}" if output else "; --output FILE records all of them"
        lines.append(f"and {more} more failed{where}")
    for outcome, item in tally.clean_ups:
        assert outcome.cleanup_error is not None
        lines.append(f"{_name(outcome, item)}: its clean-up failed: {_said(outcome.cleanup_error)}")
    for problem in problems:
        lines += [*_block(f"error: {_said(problem)}"), *_indent(_problem_trace(problem))]
    why = _why(reason, signalled)
    if why:
        lines.append(why)
    lines.append(f"{tally.counts()} in {seconds:.2f} s")
    return "".join(
        f"andon: {line}\n" if not line.startswith("  ") else f"{line}\n" for line in lines
    )


def failure(outcome: Outcome, item: str) -> list[str]:
    """One failed item: its name, its error, the user's own traceback, shortened."""
    error = outcome.error
    if error is None:
        return [f"{_name(outcome, item)} failed"]
    if isinstance(error, CommandError):
        tail = _indent(error.tail.splitlines())
        first = f"{_name(outcome, item)} {_ended(error)}: {error.command}"
        return [_short(first, 3 * WIDTH), *tail]
    lines = _block(f"{_name(outcome, item)} failed: {_said(error)}")
    text = remote_traceback(error)
    if text is not None:
        if HEADER in text:  # else there is no frame of the user's, and its last line is said
            lines += _indent(shorten(text))
    elif outcome.stack:
        lines += ["  it was at:", *_indent(outcome.stack.strip().splitlines()[:LINES])]
    return lines


def _ended(error: CommandError) -> str:
    how = ended(error.status)
    return f"was {how}" if error.status < 0 else f"failed with {how}"


def shorten(text: str) -> list[str]:
    """The frames that matter in a traceback: the first, and the last few of the last error."""
    blocks = re.split(
        r"\n\n(?:The above exception was the direct cause of the following exception"
        r"|During handling of the above exception, another exception occurred):\n\n",
        text.rstrip(),
    )
    frames = _frames(blocks[-1])
    if not frames:
        # No ordinary traceback: an exception group, say.
        lines = blocks[-1].strip("\n").splitlines()
        return lines if len(lines) <= LINES else ["...", *lines[-LINES:]]
    if len(frames) > FRAMES:
        left_out = len(frames) - FRAMES
        frames = [frames[0], [f"... {left_out} more ..."], *frames[1 - FRAMES :]]
    lines = [line for frame in frames for line in frame]
    for earlier in reversed(blocks[:-1]):
        lines.append(f"from {_short(earlier.rstrip().splitlines()[-1], WIDTH)}")
    return lines


def _frames(block: str) -> list[list[str]]:
    frames: list[list[str]] = []
    inside = False
    for line in block.splitlines():
        if line.startswith('  File "'):
            frames.append([line.strip()])
            inside = True
        elif inside and line.startswith("  "):
            frames[-1].append("  " + line.strip())
        else:
            inside = False
    # Per frame: its place, and its line of code, not the marks below it.
    return [frame[:2] for frame in frames]


def _why(reason: Reason | None, signalled: str | None) -> str:
    if signalled is not None:
        return f"stopped by {signalled}"
    if reason is None:
        return ""
    if reason.kind is ReasonKind.DEADLINE:
        return "stopped: the deadline passed"
    if reason.kind is ReasonKind.CANCEL:
        by = "" if reason.source is None else f" by item {reason.source}"
        return f"stopped{by}: {reason.message}" if reason.message else f"stopped{by}"
    return ""


def _problem_trace(problem: BaseException) -> list[str]:
    text = remote_traceback(problem)
    return [] if text is None else shorten(text)


def _said(error: BaseException) -> str:
    message = error_message(error)
    kind = error_type(error)
    # Our own errors' messages say it all; "andon.errors." would only be in the way.
    kind = kind.removeprefix("andon.errors.")
    return as_text(kind, message)


def _name(outcome: Outcome, item: str) -> str:
    return f"item {outcome.index} {_short(repr(item), WIDTH)}"


def _short(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _block(text: str) -> list[str]:
    """A message that may have several lines: the first, and a bounded rest, indented."""
    first, *rest = text.splitlines() or [""]
    more = [*rest[:LINES], "..."] if len(rest) > LINES else rest
    return [_short(first, 4 * WIDTH), *_indent(more)]


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
