"""Traces of calls by OpenTelemetry: one span for a call, and one for each phase of it. Needs the extra ``otel``.

Nothing here runs without an endpoint, and phases are noted only for calls whose trace is kept.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import grpc

from serving.errors import StartupError
from serving.observability.call import Call

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE})


class CallTracer:
    """Sender of spans to a collector, in a thread of its own."""

    def __init__(self, endpoint: str, ratio: float) -> None:
        """Trace calls that their callers trace, and a share of the others.

        Args:
            endpoint: URL of the collector's OTLP port for gRPC; ``http://`` is without TLS.
            ratio: Share of calls, of those whose caller does not say.

        Raises:
            StartupError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise StartupError("traces need dragoman[otel]: install it, or leave otlp_endpoint out") from error
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
        resource = Resource({"service.name": "dragoman", "service.version": version("dragoman")})
        self._provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("dragoman")
        self._propagator = TraceContextTextMapPropagator()
        self._monotonic_zero = time.time_ns() - time.monotonic_ns()  # when the clock of phases began

    def start(self, call: Call) -> Span:
        """Begin the span of a call; if it is kept, the call notes its phases and its trace's id."""
        from opentelemetry.trace import SpanKind, format_trace_id

        parent = self._propagator.extract(dict(call.trace_context))
        name = f"{call.service}/{call.method}" if call.service else call.method
        span = self._tracer.start_span(name, parent, SpanKind.SERVER)
        if span.is_recording():
            call.trace_id = format_trace_id(span.get_span_context().trace_id)
            call.phases = []
        return span

    def end(self, span: Span, call: Call, code: grpc.StatusCode) -> None:
        """End the span of a call, with one for each of its phases."""
        if not span.is_recording():
            return
        from opentelemetry.trace import StatusCode, set_span_in_context

        attributes: dict[str, Any] = {"rpc.system": "grpc", "rpc.grpc.status_code": code.value[0]}
        attributes |= {"dragoman.request_id": call.request_id, "dragoman.model": call.model}
        attributes |= {f"dragoman.{name}": figure for name, figure in call.figures.items()}
        span.set_attributes(attributes)
        if code in _FAULTS:
            span.set_status(StatusCode.ERROR, code.name)
        context = set_span_in_context(span)
        for name, start, end in call.phases or ():
            phase = self._tracer.start_span(name, context, start_time=self._nanoseconds(start))
            phase.end(self._nanoseconds(end))
        span.end()

    def stop(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._provider.force_flush(3000)
        self._provider.shutdown()

    def _nanoseconds(self, moment: float) -> int:
        """Turn a ``time.monotonic()`` value into nanoseconds since 1970."""
        return self._monotonic_zero + round(moment * 1e9)
