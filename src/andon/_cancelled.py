"""`Cancelled`, alone in a file so that a worker can load it at no cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


class Cancelled(BaseException):
    """Raised inside a task, or in a group's body, once the group is stopping (S16).

    It derives from BaseException so that `except Exception` lets it through. Only the library
    makes it, and only the scope that it belongs to swallows it; code may clean up on its way
    (`finally`, `with`), and swallowing it changes nothing: the next checkpoint raises again.
    `reason` says why, as text; `token` is the token whose stop it reports.
    """

    _reason: str | Callable[[], str]
    _token: Callable[[], Any]

    def __init__(self, *args: Any) -> None:
        raise TypeError(
            "andon.Cancelled is raised by andon only; to stop a group call "
            "andon.current_token().cancel('why'), or raise an error of your own"
        )

    @property
    def reason(self) -> str:
        """Why, as text."""
        if not isinstance(self._reason, str):
            self._reason = self._reason()
        return self._reason

    @property
    def token(self) -> Any:
        """The token whose stop this is; None where it has come from another process."""
        return self._token()

    def __str__(self) -> str:
        return self.reason

    def __repr__(self) -> str:
        return f"Cancelled({self.reason!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (cancelled, (self.reason,))


def _nobody() -> None:
    return None


def cancelled(
    reason: str | Callable[[], str], token: Callable[[], Any] = _nobody
) -> Cancelled:
    """Make a `Cancelled`: the library's own way to build one. Both may be found out later: a
    sibling that stops should not be held up by what hardly anyone reads."""
    exc = Cancelled.__new__(Cancelled)  # past `__init__`, which refuses
    exc._reason = reason
    exc._token = token
    return exc


def raise_cancelled(reason: str, token: Any) -> NoReturn:
    """Raise a fresh `Cancelled` of this token."""
    raise cancelled(reason, lambda: token)
