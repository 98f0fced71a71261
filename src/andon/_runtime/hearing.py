"""A bell rang: whose stop word was pulled, whose link was set? What is heard becomes events.

Called under the runtime's lock, and always before any event that a pulled word may have caused, so
that the machine learns of a cause before its effects (S1, S11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from andon._core import events as ev
from andon._runtime.groups import Group
from andon.outcome import ReasonKind

KINDS = tuple(ReasonKind)
"""The reasons by their code on the board, less one."""

Take = Callable[[ev.Event], None]
WhoPulled = Callable[[int], tuple[int | None, int | None]]


def hear(
    groups: Iterable[Group],
    take: Take,
    who_pulled: WhoPulled,
    *,
    wait: bool = False,
) -> None:
    """Look at the words and links of these groups. `who_pulled` turns a row into the attempt and
    the item that its worker is at. `wait`, a moment, where a word is pulled and it is yet to be
    said why; else that is for the next ring."""
    for group in groups:
        if not group.stopped:
            _look_at_word(group, take, who_pulled, wait)
            check_links(group, take)


def _look_at_word(group: Group, take: Take, who_pulled: WhoPulled, wait: bool) -> None:
    pulled = group.token._pulled(wait=wait)
    if pulled is None:
        return
    code, row, message = pulled
    kind = KINDS[code - 1] if 1 <= code <= len(KINDS) else ReasonKind.CANCEL
    attempt, index = who_pulled(row) if row else (None, None)
    take(ev.Cord(group.id, attempt, kind, message, index))


def check_links(group: Group, take: Take) -> None:
    """Stop the group if a token that it is linked to has been set (S37, S50); also one that drains,
    which then runs no further (S9)."""
    if group.stopped:
        return
    for token, is_parent in group.links:
        if token.is_set():
            kind = ReasonKind.PARENT if is_parent else ReasonKind.CANCEL
            grace, kill_after = group.inner_ladder if is_parent else (None, None)
            take(
                ev.StopAsked(group.id, kind, token.reason or "", grace=grace, kill_after=kill_after)
            )
            return
