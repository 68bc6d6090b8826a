"""Errors that the client raises when a call fails.

    CallError                code, message, request id
    ├── InvalidRequest       the request must change; ``violations`` lists every bad field
    ├── ModelNotFound        no such model or version
    ├── AccessDenied         the server wants a token, or one of another role
    ├── ServerOverloaded     try again after ``retry_delay``
    ├── ServerUnavailable    not reachable, loading or draining, after all retries
    ├── DeadlinePassed       no answer in time
    ├── CallCancelled        the call, or the client, was closed
    └── ServerFault          anything else: a fault of the server, or not a Dragoman server

Both clients raise these and no error of gRPC's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from serving.client.proxy import route

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """One bad field: its path in the request and a sentence with value, limit and remedy."""

    field: str
    description: str


class CallError(Exception):
    """A call failed.

    Attributes:
        code: The gRPC status.
        message: The server's sentence about it, or gRPC's.
        request_id: Name of the call in the server's log.
        violations: Every bad field; empty unless the request was at fault.
        retry_delay: Seconds to wait before another try, if the server names them.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        request_id: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        self.violations = violations
        self.retry_delay = retry_delay


class InvalidRequest(CallError):
    """The request must change; without violations, it or its answer is larger than a message may be."""


class ModelNotFound(CallError):
    """No such model or version; the message names those that are served."""


class AccessDenied(CallError):
    """The call carries no valid token, or one whose role does not allow the call."""


class ServerOverloaded(CallError):
    """The server has more to do than it can; try again later."""


class ServerUnavailable(CallError):
    """The server is not reachable, or is loading or draining."""


class DeadlinePassed(CallError):
    """No answer within the deadline, or none to be expected."""


class CallCancelled(CallError):
    """The call was cancelled, or its client closed."""


class ServerFault(CallError):
    """A fault of the server; quote the request id when reporting it."""


_KINDS: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerOverloaded,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
    grpc.StatusCode.CANCELLED: CallCancelled,
}


class FailedCall(Protocol):
    """The common part of the failures of grpc and of grpc.aio."""

    def code(self) -> grpc.StatusCode:
        """Return the status."""

    def details(self) -> str | None:
        """Return the status message."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return the metadata that holds the rich status."""


def from_failed_call(failure: FailedCall, request_id: str, server: str) -> CallError:
    """Return the error of a failed call to ``server``, with what its rich status says."""
    violations: list[FieldViolation] = []
    retry_delay = None
    details = _status(failure).details
    for detail in details:
        bad_request, retry_info = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            violations += [FieldViolation(v.field, v.description) for v in bad_request.field_violations]
        elif detail.Unpack(retry_info):
            retry_delay = retry_info.retry_delay.ToNanoseconds() / 1e9
    return _kind(failure)(
        (failure.details() or failure.code().name) + ("" if details else route(server)),
        code=failure.code(),
        request_id=request_id,
        violations=tuple(violations),
        retry_delay=retry_delay,
    )


def _kind(failure: FailedCall) -> type[CallError]:
    # gRPC's own words, on either side, for a message over its limit; nothing is overloaded, and waiting does not help.
    if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in (failure.details() or ""):
        return InvalidRequest
    return _KINDS.get(failure.code(), ServerFault)


def _status(failure: FailedCall) -> status_pb2.Status:
    for key, value in failure.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # a proxy's, not ours: the plain status still says enough
                break
    return status_pb2.Status()
