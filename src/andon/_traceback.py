"""The traceback of an error in a worker, on its way to whoever reads it.

    worker: `tell`, the frames and the last lines ──▶ parent: `show`, when somebody asks

To read the sources and put carets under them takes a millisecond or more, and nobody waits for
that while a line is being stopped. Where the parent would read other sources than the worker, or
where there is more to tell than one error with its frames, the worker formats it all at once.
"""

from __future__ import annotations

import os
import stat
from itertools import islice
from types import CodeType, TracebackType

from andon._words import clip, describe

Frame = tuple[str, int | None, int | None, int | None, int | None, str]
"""File, line, last line, first and last column, name of the function."""
Story = str | tuple[tuple[Frame, ...], str]
"""The whole text, or frames and last lines: built-in types only, so that it can be marshalled."""

# Of which more is printed than their message: a line of source, suggestions for what is misspelt.
_ELABORATE = (BaseExceptionGroup, SyntaxError, NameError, AttributeError, ImportError)
_MOST_FRAMES = 100  # more are shortened, which is the formatter's business


# What the interpreter has noted, whatever the error's own class says that it is.
trace_of = BaseException.__dict__["__traceback__"].__get__
cause_of = BaseException.__dict__["__cause__"].__get__
set_cause = BaseException.__dict__["__cause__"].__set__
context_of = BaseException.__dict__["__context__"].__get__
_members = BaseExceptionGroup.__dict__["exceptions"].__get__


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The errors of a group; of any other there are none."""
    found: tuple[BaseException, ...] = ()
    if issubclass(type(error), BaseExceptionGroup):  # isinstance() would ask the error, too
        found = _members(error)
    return found


def tell(error: BaseException, skip: tuple[str, ...] = (), text: str | None = None) -> Story:
    """What `show` needs. Frames at the start whose file's name begins as in `skip` are left out;
    `text` is what `describe` has made of the error, if it has.

    Never raises: user code that does (`__str__`, notes) is named in the text.
    """
    tb = trace_of(error)
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(skip):
        tb = tb.tb_next
    try:
        frames = _frames(tb) if _stands_alone(error) else None
        if not frames:
            import traceback  # 15 ms with `ast`; inherited, where something can be

            return clip("".join(traceback.format_exception(type(error), error, tb)))
        notes: list[str] = getattr(error, "__notes__", [])
        return frames, clip("\n".join([text or describe(error), *notes, ""]))
    except BaseException as worse:
        last = f"{describe(error)}\n(what else it has to say cannot be shown: {describe(worse)})\n"
        frames = _frames(tb)
        return (frames, last) if frames else last


def tell_frames(path: list[TracebackType], last: str) -> Story | None:
    """The innermost of these frames, with that last line; what was called from the last of them is
    cut off. None where the parent could not show them."""
    path[-1].tb_next = None
    try:
        frames = _frames(path[-_MOST_FRAMES:][0])
    except BaseException:
        return None
    return (frames, last) if frames else None


def show(story: Story) -> str:
    """The text, as the interpreter would print it."""
    if isinstance(story, str):
        return story
    import linecache
    import traceback

    frames, last = story
    for name in {frame[0] for frame in frames}:
        linecache.checkcache(name)
    stack = traceback.StackSummary.from_list(
        [
            traceback.FrameSummary(
                file, line, name, end_lineno=end_line, colno=column, end_colno=end_column
            )
            for file, line, end_line, column, end_column, name in frames
        ]
    )
    return "".join(["Traceback (most recent call last):\n", *stack.format(), last])


def _stands_alone(error: BaseException) -> bool:
    """Is there no other error to show with it, and are its last lines but its message and notes?"""
    return (
        error.__cause__ is None
        and (error.__context__ is None or error.__suppress_context__)
        and not isinstance(error, _ELABORATE)
        and all(type(note) is str for note in getattr(error, "__notes__", ()))
    )


def _frames(tb: TracebackType | None) -> tuple[Frame, ...] | None:
    """None where the parent could not show them as we can."""
    frames: list[Frame] = []
    readable: set[str] = set()
    while tb is not None:
        code = tb.tb_frame.f_code
        name = code.co_filename
        if name not in readable:
            if not _same_for_all(name):
                return None
            readable.add(name)
        position = _position(code, tb.tb_lasti)
        frames.append((name, tb.tb_lineno, *position, code.co_name))
        tb = tb.tb_next
    return None if len(frames) > _MOST_FRAMES else tuple(frames)


def _position(code: CodeType, at: int) -> tuple[int | None, int | None, int | None]:
    """Last line, first and last column of the instruction at that offset."""
    if at >= 0:
        position = next(islice(code.co_positions(), at // 2, None), None)  # two bytes each
        if position is not None:
            return position[1:]
    return None, None, None


def _same_for_all(name: str) -> bool:
    """Does every process of this machine find the same source under that name, or none?"""
    if name.startswith("<"):  # of a prompt, a notebook, a string: the parent's, if anybody's
        import linecache

        return name not in linecache.cache
    if not (name.startswith(os.sep) or os.path.isabs(name)):
        return False
    try:
        return stat.S_ISREG(os.stat(name).st_mode)  # `os.path.isfile` takes twice as long
    except (OSError, ValueError):
        return False
