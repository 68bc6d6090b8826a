"""Conversion of errors to gRPC statuses with google.rpc details, and to those of HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from serving import errors
from serving.observability.call import REQUEST_ID_KEY

# Status and reason of google.rpc.ErrorInfo; None stands for the error's own reason.
_STATUS: dict[type[BaseException], tuple[grpc.StatusCode, str | None]] = {
    errors.InvalidRequest: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    errors.ResponseTooLarge: (grpc.StatusCode.INVALID_ARGUMENT, "RESPONSE_TOO_LARGE"),
    errors.Quarantined: (grpc.StatusCode.INVALID_ARGUMENT, "QUARANTINED"),
    errors.NotFound: (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    errors.Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.PermissionDenied: (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    errors.Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, None),
    errors.Unavailable: (grpc.StatusCode.UNAVAILABLE, None),
    errors.DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    errors.Cancelled: (grpc.StatusCode.CANCELLED, "CANCELLED"),
    BaseException: (grpc.StatusCode.INTERNAL, "INTERNAL"),
}
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,  # no standard has one; nobody is there to read it
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

DOMAIN = "dragoman"
# gRPC peers refuse metadata above 8 KiB, and details travel base64-encoded beside the message.
_MESSAGE_BYTES = 512
_VIOLATIONS_BYTES = 3072


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the status code of an error."""
    return _entry(error)[0]


def http_status_of(error: BaseException) -> int:
    """Return the HTTP status of an error, as ``google/rpc/code.proto`` maps them."""
    return _HTTP[code_of(error)]


def status_of(error: BaseException, request_id: str) -> status_pb2.Status:
    """Return the full status of an error; an internal one reveals nothing but the request id."""
    code, reason = _entry(error)
    if code is grpc.StatusCode.INTERNAL:
        message = f"internal error; quote request id {request_id} when reporting it"
    else:
        message = _cut(str(error))
    return status_pb2.Status(
        code=code.value[0],
        message=message,
        details=[_packed(detail) for detail in _details(error, reason, request_id)],
    )


def trailing_metadata(
    error: BaseException, status: status_pb2.Status, request_id: str
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata of a failed call: request id, its status, and the delay of gRPC's own retry."""
    metadata: tuple[tuple[str, str | bytes], ...] = (
        (REQUEST_ID_KEY, request_id),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
    if isinstance(error, errors.Overloaded | errors.Unavailable):
        metadata += (("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))),)
    return metadata


def _entry(error: BaseException) -> tuple[grpc.StatusCode, str | None]:
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def _details(error: BaseException, reason: str | None, request_id: str) -> Iterator[Message]:
    retry_after = getattr(error, "retry_after", 0.0)
    yield error_details_pb2.ErrorInfo(reason=reason or str(getattr(error, "reason", "")).upper(), domain=DOMAIN)
    yield error_details_pb2.RequestInfo(request_id=request_id)
    if isinstance(error, errors.InvalidRequest):
        yield _bad_request(error)
    if retry_after:
        delay = Duration()
        delay.FromMilliseconds(round(retry_after * 1000))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def _bad_request(error: errors.InvalidRequest) -> error_details_pb2.BadRequest:
    detail = error_details_pb2.BadRequest()
    for done, violation in enumerate(error.violations):
        entry = detail.field_violations.add(field=violation.field, description=_cut(violation.description))
        if detail.ByteSize() > _VIOLATIONS_BYTES:
            entry.description = f"{len(error.violations) - done} more fields are invalid; correct the others first"
            break
    return detail


def _cut(text: str) -> str:
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= _MESSAGE_BYTES:
        return text
    return encoded[:_MESSAGE_BYTES].decode("utf-8", errors="ignore") + "…"


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
