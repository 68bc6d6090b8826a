"""What happens around every call, whichever port it comes by: admission, metrics and the access log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from serving.api.admission import Admission
from serving.api.clients import Clients
from serving.api.errors import code_of
from serving.errors import Overloaded, Unavailable
from serving.observability.call import Call, current_call
from serving.observability.call_metrics import CallMetrics
from serving.observability.tracing import CallTracer
from serving.token_bucket import TokenBucket
from serving.tokens import BearerToken

_LOG = logging.getLogger(__name__)

READ_SECONDS = 60.0  # for a caller to make room for more, lest who does not read keeps a place for ever


class Calls:
    """The calls of one server."""

    def __init__(
        self,
        admission: Admission,
        metrics: CallMetrics,
        clients: Clients | None = None,
        tracer: CallTracer | None = None,
        lines_per_second: float = 0.0,
    ) -> None:
        """Admit calls by ``admission`` and the limits of ``clients``, and tell of them.

        Args:
            admission: Of all calls.
            metrics: Count them.
            clients: Limits of each client.
            tracer: Traces them.
            lines_per_second: Most of them that are logged, but for faults of the server; 0 is all.
        """
        self._admission = admission
        self._clients = clients or Clients()
        self._tracer = tracer
        self._lines = TokenBucket(lines_per_second) if lines_per_second else None
        self._metrics = metrics

    @contextmanager
    def observed(self, call: Call, is_late: Callable[[], bool]) -> Iterator[None]:
        """Count, time and log a call; whatever it raises is its outcome and passes on.

        Args:
            call: The call, which is the current one within the block.
            is_late: Tells, when the call is cancelled, whether that is because its deadline passed.
        """
        before = current_call.set(call)
        span = self._tracer.start(call) if self._tracer else None
        self._metrics.started(call)
        code = grpc.StatusCode.INTERNAL
        try:
            yield
            code = grpc.StatusCode.OK
        except asyncio.CancelledError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED if is_late() else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            code = code_of(error)
            if code is grpc.StatusCode.INTERNAL:
                _LOG.error("internal_error", exc_info=error)
            raise
        finally:
            self._record(call, code, time.perf_counter() - call.started)
            if self._tracer and span:
                self._tracer.end(span, call, code)
            current_call.reset(before)

    @contextmanager
    def admitted(self, call: Call, caller: str, token: BearerToken | None) -> Iterator[None]:
        """Hold a place for a call, which then can spend what its caller may.

        Args:
            call: The call.
            caller: The host it comes from, for callers without a token.
            token: Of the caller, if it needed one.

        Raises:
            Unavailable: The server is loading or draining.
            Overloaded: Too many calls are in flight, or they arrive too fast, of this caller or of all.
        """
        client = self._clients.client(f"token {token.name}", token.limits) if token else self._clients.client(caller)
        call.spend, call.max_beam = client.spend, client.limits.beam
        try:
            with self._admission.call(), client.call(streaming=call.kind != "unary"):
                yield
        except (Overloaded, Unavailable) as error:
            if not call.model:
                self._metrics.refused(call.method, error.reason)
            raise

    def answering(self, call: Call) -> None:
        """Note that a message of a stream was sent; the first one's time is recorded."""
        if "first_message_seconds" not in call.figures:
            seconds = time.perf_counter() - call.started
            call.figures["first_message_seconds"] = round(seconds, 6)
            self._metrics.first_message(call, seconds)

    def _record(self, call: Call, code: grpc.StatusCode, seconds: float) -> None:
        self._metrics.ended(call, code, seconds)
        if self._lines and code is not grpc.StatusCode.INTERNAL and self._lines.take():
            self._metrics.line_dropped()
            return
        line = {"method": call.method, "code": code.name, "seconds": round(seconds, 6), "model": call.model}
        line |= {"trace_id": call.trace_id} if call.trace_id else {}
        line |= {"attempt": call.attempt} if call.attempt > 1 else {}
        _LOG.info("call", extra=line | call.figures)
