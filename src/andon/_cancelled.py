"""`Cancelled`, alone in a file so that a worker can load it at no cost."""

from __future__ import annotations

from typing import Any, NoReturn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Source(Protocol):
        """What a `Cancelled` has come from, and is asked only if somebody wants to know: a sibling
        that stops should not be held up by what hardly anyone reads."""

        def reason(self) -> str: ...

        def token(self) -> Any: ...


class Cancelled(BaseException):
    """Raised inside a task, or in a group's body, once the group is stopping (S16).

    It derives from BaseException so that `except Exception` lets it through. Only the library
    makes it, and only the scope that it belongs to swallows it; code may clean up on its way
    (`finally`, `with`), and swallowing it changes nothing: the next checkpoint raises again.
    `reason` says why, as text; `token` is the token whose stop it reports.
    """

    _reason: str | None = None
    _source: Source

    def __init__(self, *args: Any) -> None:
        raise TypeError(
            "andon.Cancelled is raised by andon only; to stop a group call "
            "andon.current_token().cancel('why'), or raise an error of your own"
        )

    @property
    def reason(self) -> str:
        """Why, as text."""
        if self._reason is None:
            self._reason = self._source.reason()
        return self._reason

    @property
    def token(self) -> Any:
        """The token whose stop this is; None where it has come from another process."""
        return self._source.token()

    def __str__(self) -> str:
        return self.reason

    def __repr__(self) -> str:
        return f"Cancelled({self.reason!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (cancelled, (self.reason,))


class _Told(tuple[str, Any]):
    """A source that was given both."""

    __slots__ = ()

    def reason(self) -> str:
        return self[0]

    def token(self) -> Any:
        return self[1]


def cancelled(reason: str, token: Any = None) -> Cancelled:
    """Make a `Cancelled`: the library's own way to build one, also to unpickle it."""
    return come_from(_Told((reason, token)))


def come_from(source: Source) -> Cancelled:
    """Make one that finds out later why and whose it is."""
    exc = Cancelled.__new__(Cancelled)  # past `__init__`, which refuses
    exc._source = source
    return exc


def raise_cancelled(reason: str, token: Any) -> NoReturn:
    """Raise a fresh `Cancelled` of this token."""
    raise cancelled(reason, token)
