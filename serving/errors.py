"""Exceptions that serving raises on purpose.

    DragomanError
    ├── InvalidRequest       the caller must change the request
    │   ├── ResponseTooLarge its answer does not fit into a message
    │   └── Quarantined      it made the engine fail, twice
    ├── NotFound             the model or version does not exist
    ├── Unauthenticated      the caller did not show who it is
    ├── PermissionDenied     the caller's role does not allow the call
    ├── Overloaded           try again later: a queue, token budget or rate limit is full
    ├── Unavailable          try again later: loading or draining
    ├── DeadlineExceeded     the answer would be, or is, too late
    ├── Cancelled            the caller went away
    ├── EngineFailure        a bug, a runtime failure, NaN scores: details go to the log, never to the caller
    └── StartupError         the server cannot start: bad configuration, broken bundle, missing device

``serving/api/errors.py`` maps each of them to a gRPC status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class DragomanError(Exception):
    """Base class of all of them."""


@dataclass(frozen=True)
class FieldViolation:
    """An invalid field: its path in the request and one sentence with value, limit and remedy."""

    field: str
    description: str


class InvalidRequest(DragomanError):
    """The request is invalid; lists every invalid field."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)

    def renamed(self, names: Mapping[str, str]) -> InvalidRequest:
        """Return the same with other names for top-level fields, for an API that calls them so."""

        def path(field: str) -> str:
            head, rest = re.split(r"(?=[.\[]|$)", field, maxsplit=1)
            return names.get(head, head) + rest

        return InvalidRequest([FieldViolation(path(one.field), one.description) for one in self.violations])


class ResponseTooLarge(InvalidRequest):
    """The answer does not fit into a message."""

    def __init__(self, size: int, limit: int) -> None:
        remedy = "ask for less in one call: fewer texts, a smaller n_best, no tokens, no alignments, no attention"
        description = f"the response would have {size:,} bytes, and {limit:,} are the limit; {remedy}"
        super().__init__([FieldViolation("contents", description)])


class Quarantined(InvalidRequest):
    """The request has a sentence that made the engine fail twice."""

    def __init__(self) -> None:
        description = "has a text that made the model fail twice; leave it out, or change it; it is refused for an hour"
        super().__init__([FieldViolation("contents", description)])


class NotFound(DragomanError):
    """The model or version does not exist; the message lists those that do."""


class Unauthenticated(DragomanError):
    """The caller did not show who it is; the message never says what was wrong, which would help to guess."""

    def __init__(self) -> None:
        super().__init__("show who you are: this needs a valid bearer token, or the client certificate asked for")


FOREIGN_HOST = (
    "the Host header is neither localhost nor an address, so that a page of another site may have sent this; "
    "use http://127.0.0.1, or start the server with --allowed-hosts and the name, or with --tokens"
)


class PermissionDenied(DragomanError):
    """The caller's role, or the name that it calls the server by, does not allow the call."""

    def __init__(
        self, message: str = "the role of this token does not allow this; use a token of another role"
    ) -> None:
        super().__init__(message)


class _RetryLater(DragomanError):
    def __init__(self, message: str, *, reason: str, retry_after: float) -> None:
        super().__init__(message)
        self.reason = reason  # one of a closed set: a metric label
        self.retry_after = retry_after  # seconds


class Overloaded(_RetryLater):
    """A queue, token budget or rate limit is full."""


class Unavailable(_RetryLater):
    """The model is loading or draining."""


class DeadlineExceeded(DragomanError):
    """The deadline has passed; or it cannot be met, in which case another try later may succeed."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds; 0 if the deadline has passed


class Cancelled(DragomanError):
    """The caller went away."""


class EngineFailure(DragomanError):
    """The engine failed; the message never reaches a caller."""


class StartupError(DragomanError):
    """The server cannot start; lists every problem found."""
