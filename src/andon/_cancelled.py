"""`Cancelled`, alone in a file so that a worker can load it at no cost."""

from __future__ import annotations

from typing import Any, NoReturn

_MINT = object()


class Cancelled(BaseException):
    """Raised inside a task, or in a group's body, once the group is stopping (S16).

    It derives from BaseException so that `except Exception` lets it through. Only the library
    makes it, and only the scope that it belongs to swallows it; code may clean up on its way
    (`finally`, `with`), and swallowing it changes nothing: the next checkpoint raises again.
    `reason` says why, as text; `token` is the token whose stop it reports.
    """

    reason: str
    token: Any

    def __init__(self, *args: Any) -> None:
        if not args or args[0] is not _MINT:
            raise TypeError(
                "andon.Cancelled is raised by andon only; to stop a group call "
                "andon.current_token().cancel('why'), or raise an error of your own"
            )
        super().__init__(*args[1:])

    def __reduce__(self) -> tuple[Any, ...]:
        return (cancelled, (self.reason,))


def cancelled(reason: str, token: Any = None) -> Cancelled:
    """Make a `Cancelled`: the library's own way to build one."""
    exc = Cancelled(_MINT, reason)
    exc.reason = reason
    exc.token = token
    return exc


def raise_cancelled(reason: str, token: Any = None) -> NoReturn:
    """Raise a fresh `Cancelled`."""
    raise cancelled(reason, token)
