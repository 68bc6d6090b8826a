"""The call being answered, as logs and metrics describe it; never its text."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

REQUEST_ID_KEY = "x-request-id"
_PREVIOUS_ATTEMPTS_KEY = "grpc-previous-rpc-attempts"  # set by a gRPC client that retries
_TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


Phase = tuple[str, float, float]


@dataclass
class Call:
    """One call in progress.

    Attributes:
        request_id: Id sent by the caller, or a generated one.
        method: Name of the RPC, or verb and path of an HTTP call.
        service: Full name of the RPC's service; empty for an HTTP call.
        kind: ``unary`` or ``server_stream``, as gRPC's customary metrics call them.
        attempt: Number of the attempt, from 1; more where the caller's gRPC lost earlier ones or was refused.
        spend: Takes a number of characters out of the limits of the caller.
        max_beam: Largest beam size that the caller may have; 0 is no limit.
        trace_context: What the caller says of its trace, in W3C's headers.
        trace_id: Of its trace, in hex; empty if that is not kept.
        phases: Name, start and end (``time.monotonic()``) of its phases, if its trace is kept.
        model: Metric label of the model that answers; empty until it is known.
        figures: Counts and durations for the access log.
        started: When it arrived, ``time.perf_counter()`` seconds.
    """

    request_id: str
    method: str
    service: str = ""
    kind: str = "unary"
    attempt: int = 1
    spend: Callable[[int], None] = lambda characters: None
    max_beam: int = 0
    trace_context: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""
    phases: list[Phase] | None = None
    model: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


def request_id_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the request id in a call's metadata, or a new one if it is absent or unfit for a log."""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _ACCEPTABLE_ID.fullmatch(value):
            return value
    return f"{random.getrandbits(128):032x}"  # uuid4 asks the system, and gives up Python's lock for it


def trace_context_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return what a caller says of its trace."""
    return {key: value for key, value in metadata or () if key in _TRACE_CONTEXT and isinstance(value, str)}


def attempt_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> int:
    """Return which attempt of a gRPC client's retry policy a call is, from 1."""
    for key, value in metadata or ():
        if key == _PREVIOUS_ATTEMPTS_KEY and isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value):
            return int(value) + 1
    return 1
