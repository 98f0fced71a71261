"""Whether an item may stand where `{}` does in a shell command.

An item is put there in quotes of its own. They hold only where the shell expects a plain word:
inside other quotes they would end those, and the item's own text would be read as code.

This reads quotes as POSIX says, with what bash, ksh and zsh add. Where the shells differ, or where
only a whole parser could tell, it does not guess: no item may stand behind that.
"""

from __future__ import annotations

import re

# In code and in double quotes alike.
_EVERYWHERE = {
    "number": r"\$\$",  # of the shell's process: what follows it begins anew
    "backquotes": r"`(?:[^`\\]|\\.)*(?:`|\Z)",
    "parameter": r"\$\{[^}]*(?:\}|\Z)",  # up to the first `}`: of `${x:-{}}` it holds the item
}
_SUM = r"\(\((?:[^()'\"`\\]|\([^()'\"`\\]*\))*\)\)"
_HERE_DOCUMENT = r"<<-?[ \t]*(?:\\?\w+|'\w+'|\"\w+\")(?=[\s;&|)<>]|\Z)"
_OLD_SUM = r"\$\[[^]'\"`\\]*\]"


def _reader(**parts: str) -> re.Pattern[str]:
    named = {**_EVERYWHERE, **parts}
    return re.compile("|".join(f"(?P<{name}>{part})" for name, part in named.items()), re.DOTALL)


_DOUBLE = _reader(
    arithmetic=rf"\${_SUM}|{_OLD_SUM}",
    unsure=r"\$\(\(|\$\[",
    open=r"\$\(",
    quote='"',
    item=r"\{\}",
    escaped=r"\\(?!\{\}).",
)
_CODE = _reader(
    arithmetic=rf"\$?{_SUM}|{_OLD_SUM}",
    string="<<<",
    here=_HERE_DOCUMENT,
    unsure=r"\$?\(\(|\$\[|\$?\(#|[)<>]#|\\\n#|<<",
    open=r"\$?\(",
    close=r"\)",
    quote='"',
    single=r"\$?'[^']*(?:'|\Z)",
    backslash=r"\\\{\}",
    escaped=r"\\.#?",
    comment=r"(?:\A|(?<=[ \t\n;&|]))#[^\n]*",
    line=r"\n",
    case=r"\bcase\b",
)

_PLACES = {
    "single": "inside single quotes",
    "backquotes": "inside backquotes",
    "parameter": "inside ${...}",
    "arithmetic": "inside arithmetic",
    "comment": "in a comment",
    "backslash": "after a backslash",
}


def wrong_place(command: str) -> str | None:
    """Where the first `{}` stands that an item's quotes would not hold at; None: there is none."""
    inside = ["("]  # what we are in, from the outermost: code, or double quotes
    here_document = False
    at = 0
    while True:
        found = (_DOUBLE if inside[-1] == '"' else _CODE).search(command, at)
        if found is None:
            return None
        at = found.end()
        kind, text = str(found.lastgroup), found[0]
        if kind in _PLACES and "{}" in text:
            return _PLACES[kind]
        if kind == "item" and inside[-1] == '"':
            return "inside double quotes"
        if kind == "quote" and inside[-1] == '"':
            inside.pop()
        elif kind in ("quote", "open"):
            inside.append(text[-1])
        elif kind == "close" and len(inside) > 1:
            inside.pop()
        elif kind == "here":
            here_document = True
        elif (
            kind == "unsure"
            or (kind == "line" and here_document)
            # A pattern's `)` would look like the end of what stands inside the double quotes.
            or (kind == "case" and '"' in inside)
            # Some shells take `\'` for the end of it, others do not.
            or (kind == "single" and text.startswith("$") and "\\'" in text)
            or (kind == "parameter" and any(mark in text[2:] for mark in "$'\"`\\"))
        ):
            if "{}" in command[at:]:
                return f"behind {_short(command[: found.end()])}, where its quoting cannot be told"
            return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 20 else f"...{text[-17:]}"
