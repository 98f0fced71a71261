"""What a group's end raises: the one place that turns verdicts into errors (S30–S33, S43, S44)."""

from __future__ import annotations

from collections.abc import Sequence

from andon._runtime.groups import Group, add_up, attach
from andon._words import describe, note
from andon.errors import GroupTimeoutError, PoolShutdownError, TaskCancelledError
from andon.outcome import ReasonKind


def errors_of(
    group: Group, body: BaseException | None, more: Sequence[BaseException] = ()
) -> list[BaseException]:
    """All that the group has to raise, in the order of decision; the body's error first if it was
    the cause. An error that is both a task's and the body's counts once (S31). `more`: errors of
    what the body has running beside itself, in their order."""
    errors: list[BaseException] = []
    if group.raises:
        errors += [o.error for o in group.failures if o.error is not None]
    if group.mistake is not None:
        errors.insert(0 if group.mistaken else len(errors), group.mistake)
    if group.broken is not None:
        errors.insert(0, group.broken)
    reason = group.reason
    if reason is not None and reason.kind is ReasonKind.DEADLINE:
        stats = group.stats
        errors.insert(
            0,
            GroupTimeoutError(
                f"the group's deadline passed with {stats.cancelled} of {stats.submitted} tasks "
                "unfinished",
                unfinished=stats.cancelled,
            ),
        )
    if reason is not None and reason.kind is ReasonKind.SHUTDOWN:
        errors.append(PoolShutdownError(f"the group's pool ended under it: {reason.message}"))
    bodies: list[BaseException] = []
    for each in more if body is None else (*more, body):
        if not any(each is e for e in (*errors, *bodies)):
            bodies.append(each)
    first = reason is None or reason.kind is ReasonKind.BODY
    return bodies + errors if first else errors + bodies


def raise_group(
    group: Group, body: BaseException | None, owner: object, more: Sequence[BaseException] = ()
) -> None:
    """Raise an `ExceptionGroup` of all errors, even of one (S43); nothing where there is none."""
    errors = errors_of(group, body, more)
    if not errors:
        return
    title = f"{group.reason}; {add_up(group)}" if group.reason is not None else add_up(group)
    error = BaseExceptionGroup(title, errors)
    for each in (error, *errors):  # `except*` makes a group of its own of the errors it takes
        attach(each, owner or group)
    try:
        raise error from None
    finally:
        del errors, error, body, more


def raise_first(
    group: Group,
    body: BaseException | None,
    owner: object,
    more: Sequence[BaseException] = (),
    *,
    ours: bool = True,
) -> None:
    """Raise the first error bare, so that `except ValueError` works (S44). `ours`: the body is code
    of ours, so an error of it is the input's, or that a result is late, and is given a note of what
    became of the tasks."""
    errors = errors_of(group, body, more)
    if not errors:
        if group.reason is None:
            return
        errors = [
            TaskCancelledError(
                f"the call was stopped ({group.reason}); {add_up(group)}", reason=group.reason
            )
        ]
    first = errors[0]
    if ours or first is not body:
        note(first, add_up(group))
    for other in errors[1:]:
        note(first, f"also failed: {describe(other)}")
    attach(first, owner or group)
    try:
        raise first
    finally:
        del errors, first, body, more


def raise_first_quietly(
    group: Group, body: BaseException | None, owner: object, more: Sequence[BaseException] = ()
) -> None:
    """As `raise_first`, for a scope that a stop without any failure leaves in silence."""
    if errors_of(group, body, more):
        raise_first(group, body, owner, more, ours=False)


def note_failures(error: BaseException, group: Group, owner: object) -> None:
    """A KeyboardInterrupt or SystemExit leaves bare, with the failures as notes (S31, S32)."""
    if group.mistake is not None:
        note(error, f"the policy failed: {describe(group.mistake)}")
    for outcome in group.failures:
        if outcome.error is not None:
            note(error, f"task {outcome.index} failed: {describe(outcome.error)}")
    attach(error, owner or group)
