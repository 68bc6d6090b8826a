"""The table from errors to statuses, and what travels with a status."""

from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from serving import errors
from serving.api.errors import code_of, status_of, trailing_metadata

SECRET = "what the caller wrote"
Detail = TypeVar("Detail", bound=Message)


def detail(status: status_pb2.Status, kind: type[Detail]) -> Detail:
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"{kind.__name__} is not among the details")


CASES = [
    (errors.InvalidRequest([errors.FieldViolation("contents", "is empty")]), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    (errors.ResponseTooLarge(5000, 4096), "INVALID_ARGUMENT", "RESPONSE_TOO_LARGE"),
    (errors.Quarantined(), "INVALID_ARGUMENT", "QUARANTINED"),
    (errors.NotFound("no model x"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    (errors.Unauthenticated(), "UNAUTHENTICATED", "UNAUTHENTICATED"),
    (errors.PermissionDenied(), "PERMISSION_DENIED", "PERMISSION_DENIED"),
    (errors.Overloaded("full", reason="queue_full", retry_after=2.5), "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    (errors.Unavailable("draining", reason="draining", retry_after=1.0), "UNAVAILABLE", "DRAINING"),
    (errors.DeadlineExceeded("late"), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    (errors.Cancelled("gone"), "CANCELLED", "CANCELLED"),
    (errors.EngineFailure(SECRET), "INTERNAL", "INTERNAL"),
    (errors.StartupError(SECRET), "INTERNAL", "INTERNAL"),
    (errors.DragomanError(SECRET), "INTERNAL", "INTERNAL"),
    (ValueError(SECRET), "INTERNAL", "INTERNAL"),
]


@pytest.mark.parametrize(("error", "code", "reason"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_every_error_has_its_status(error: Exception, code: str, reason: str) -> None:
    status = status_of(error, "id-1")
    assert code_of(error) is grpc.StatusCode[code]
    assert status.code == grpc.StatusCode[code].value[0]
    assert detail(status, error_details_pb2.ErrorInfo).reason == reason
    assert detail(status, error_details_pb2.RequestInfo).request_id == "id-1"
    if code == "INTERNAL":
        assert "id-1" in status.message
        assert SECRET.encode() not in status.SerializeToString()
    else:
        assert status.message == str(error)


def test_every_error_of_the_tree_is_in_the_table() -> None:
    tree = {type(case[0]) for case in CASES}
    public = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {kind for kind in public if not kind.__name__.startswith("_")} <= tree


def test_retry_later_says_when() -> None:
    error = errors.Overloaded("full", reason="queue_full", retry_after=2.5)
    delay = detail(status_of(error, "id"), error_details_pb2.RetryInfo).retry_delay
    assert (delay.seconds, delay.nanos) == (2, 500_000_000)
    assert dict(trailing_metadata(error, status_of(error, "id"), "id"))["grpc-retry-pushback-ms"] == "2500"
    absent = errors.NotFound("x")
    assert "grpc-retry-pushback-ms" not in dict(trailing_metadata(absent, status_of(absent, "id"), "id"))


def test_every_bad_field_has_an_entry() -> None:
    violations = [errors.FieldViolation("options.n_best", "is 0"), errors.FieldViolation("contents", "is empty")]
    entries = detail(status_of(errors.InvalidRequest(violations), "id"), error_details_pb2.BadRequest).field_violations
    assert [(entry.field, entry.description) for entry in entries] == [(v.field, v.description) for v in violations]


@pytest.mark.parametrize("filler", ["x", "é", "翻"])
def test_what_travels_stays_below_what_peers_take(filler: str) -> None:
    error = errors.InvalidRequest([errors.FieldViolation(f"contents[{n}]", filler * 900) for n in range(1000)])
    status = status_of(error, "i" * 128)
    sizes = [len(key) + len(value) for key, value in trailing_metadata(error, status, "i" * 128)]
    assert sum(sizes) * 4 / 3 + 3 * len(status.message.encode()) < 8192
    entries = detail(status, error_details_pb2.BadRequest).field_violations
    assert entries[0].field == "contents[0]"
    assert "more fields are invalid" in entries[-1].description
