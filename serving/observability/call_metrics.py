"""Metrics of calls, under this project's names and, if they came by gRPC, under the customary names too."""

from __future__ import annotations

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from serving.observability.call import Call

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GRPC = ("grpc_type", "grpc_service", "grpc_method")
_DISCARDED = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})


class CallMetrics:
    """Counters and durations of one server's calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the families in ``registry``."""
        self._started = Counter("grpc_server_started_total", "RPCs started.", _GRPC, registry=registry)
        self._handled = Counter(
            "grpc_server_handled_total", "RPCs completed, by status code.", (*_GRPC, "grpc_code"), registry=registry
        )
        self._handling = Histogram(
            "grpc_server_handling_seconds", "Duration of RPCs.", _GRPC, buckets=CALL_SECONDS, registry=registry
        )
        self._requests = Counter(
            "dragoman_requests_total", "Requests by status code.", ("model", "method", "code"), registry=registry
        )
        self._seconds = Histogram(
            "dragoman_request_seconds",
            "Time from a request's arrival to its response.",
            ("model", "method"),
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self._first_message_seconds = Histogram(
            "dragoman_first_message_seconds",
            "Time from the arrival of a request for a stream to the first message of the answer.",
            ("model", "method"),
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "dragoman_refused_calls_total",
            "Calls refused before they reached a model.",
            ("method", "reason"),
            registry=registry,
        )
        self._retried = Counter(
            "dragoman_retried_calls_total",
            "Calls that a client's gRPC repeated after a lost connection or a refusal.",
            ("method",),
            registry=registry,
        )
        self._discarded_seconds = Counter(
            "dragoman_discarded_seconds_total",
            "Time spent on calls whose caller was gone before the answer.",
            ("model", "method", "code"),
            registry=registry,
        )

    def started(self, call: Call) -> None:
        """Count a call that started."""
        if call.service:
            self._started.labels(call.kind, call.service, call.method).inc()
        if call.attempt > 1:
            self._retried.labels(call.method).inc()

    def refused(self, method: str, reason: str) -> None:
        """Count a call that was not admitted; ``ended`` follows."""
        self._refused.labels(method, reason).inc()

    def first_message(self, call: Call, seconds: float) -> None:
        """Record when the answer of a streaming call began."""
        self._first_message_seconds.labels(call.model, call.method).observe(seconds)

    def ended(self, call: Call, code: grpc.StatusCode, seconds: float) -> None:
        """Record a call that ended; every call that started ends exactly once."""
        if call.service:
            self._handled.labels(call.kind, call.service, call.method, code.name).inc()
            self._handling.labels(call.kind, call.service, call.method).observe(seconds)
        self._requests.labels(call.model, call.method, code.name).inc()
        self._seconds.labels(call.model, call.method).observe(seconds)
        if code in _DISCARDED:
            self._discarded_seconds.labels(call.model, call.method, code.name).inc(seconds)
