"""Interceptor around every call: admission, statuses of errors, metrics, the access log, the request id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from serving.api.access import Access
from serving.api.admission import Admission
from serving.api.errors import code_of, status_of, trailing_metadata
from serving.errors import (
    FieldViolation,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    ResponseTooLarge,
    Unauthenticated,
    Unavailable,
)
from serving.observability.call import REQUEST_ID_KEY, Call, attempt_of, current_call, request_id_of
from serving.observability.call_metrics import CallMetrics

_LOG = logging.getLogger(__name__)
# A caller's deadline arrives as a cancellation at about the moment it passes.
_DEADLINE_SLACK = 0.05

Context = aio.ServicerContext[Any, Any]
Respond = Callable[[Call, Any, Context], Awaitable[bytes]]  # the message is its bytes
if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs only
    """Interceptor of the unary methods of one service; calls of other methods pass through if they may."""

    def __init__(
        self, service: str, access: Access, admission: Admission, metrics: CallMetrics, max_response_bytes: int
    ) -> None:
        """Intercept the methods of ``service``, and ask ``access`` about every call to any."""
        self._service = service
        self._access = access
        self._admission = admission
        self._metrics = metrics
        self._max_response_bytes = max_response_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Replace a method's handler with one from bytes to bytes.

        It parses the request and serializes the response, so that invalid bytes, and a response that cannot be sent,
        are errors like any other.
        """
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.removeprefix("/").partition("/")
        if handler is None:
            return handler
        try:
            self._access.to_method(handler_call_details.method, handler_call_details.invocation_metadata)
        except (Unauthenticated, PermissionDenied) as error:
            # Streaming in both directions fits every method, and reads nothing of what the caller sends.
            ours = service == self._service
            refuse = partial(self._observe, method, _raising(error)) if ours else partial(self._refuse, error)
            return grpc.stream_stream_rpc_method_handler(cast("Any", refuse))
        if service != self._service or handler.unary_unary is None:
            return handler
        parse, serialize = cast("Any", handler.request_deserializer), cast("Any", handler.response_serializer)
        answer = cast("Any", handler.unary_unary)

        async def respond(call: Call, raw: bytes, context: Context) -> bytes:
            response: bytes = serialize(await answer(_parsed(parse, raw), context))
            # gRPC would call it RESOURCE_EXHAUSTED, after we counted it OK.
            if len(response) > self._max_response_bytes:
                raise ResponseTooLarge(len(response), self._max_response_bytes)
            return response

        admitted = partial(self._admitted, respond)
        return grpc.unary_unary_rpc_method_handler(cast("Any", partial(self._observe, method, admitted)))

    async def _observe(self, method: str, respond: Respond, raw: Any, context: Context) -> bytes:
        metadata = context.invocation_metadata()
        call = Call(request_id_of(metadata), self._service, method, attempt_of(metadata))
        current_call.set(call)
        context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        self._metrics.started(call)
        started = time.perf_counter()
        code = grpc.StatusCode.INTERNAL
        try:
            response = await respond(call, raw, context)
            code = grpc.StatusCode.OK
        except asyncio.CancelledError:
            remaining = context.time_remaining()
            late = remaining is not None and remaining <= _DEADLINE_SLACK
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            code = code_of(error)
            await self._abort(error, call, context)
        finally:
            self._record(call, code, time.perf_counter() - started)
        return response

    async def _admitted(self, respond: Respond, call: Call, raw: bytes, context: Context) -> bytes:
        try:
            with self._admission.call():
                return await respond(call, raw, context)
        except (Overloaded, Unavailable) as error:
            if not call.model:
                self._metrics.refused(call.method, error.reason)
            raise

    async def _refuse(self, error: Exception, requests: object, context: Context) -> None:
        """Refuse a call to a service that is not observed."""
        await self._abort(error, Call(request_id_of(context.invocation_metadata()), service="", method=""), context)

    async def _abort(self, error: Exception, call: Call, context: Context) -> None:
        if code_of(error) is grpc.StatusCode.INTERNAL:
            _LOG.error("internal_error", exc_info=error)
        status = status_of(error, call.request_id)
        await context.abort(code_of(error), status.message, trailing_metadata(error, call.request_id))

    def _record(self, call: Call, code: grpc.StatusCode, seconds: float) -> None:
        self._metrics.ended(call, code, seconds)
        line = {"method": call.method, "code": code.name, "seconds": round(seconds, 6), "model": call.model}
        line |= {"attempt": call.attempt} if call.attempt > 1 else {}
        _LOG.info("call", extra=line | call.figures)


def _raising(error: Exception) -> Respond:
    async def respond(call: Call, requests: object, context: Context) -> bytes:
        raise error

    return respond


def _parsed(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return parse(raw)
    except DecodeError:
        description = "the bytes are not a message of this method, or a string in them is not UTF-8; compare the .proto"
        raise InvalidRequest([FieldViolation("request", description)]) from None
