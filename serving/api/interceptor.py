"""Interceptor around every call: admission, statuses of errors, metrics, the access log, the request id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
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
Respond = Callable[[Call, Any, Context], Awaitable[bytes | None]]  # messages are bytes; a stream writes its own
if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs only
    """Interceptor of the methods of one service; calls of other services pass through if they may."""

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
            refuse = self._observed(method, handler, _raising(error)) if ours else partial(self._refuse, error)
            return grpc.stream_stream_rpc_method_handler(cast("Any", refuse))
        if service != self._service:
            return handler
        if handler.response_streaming:
            streaming = partial(self._admitted, self._streaming(handler))
            return grpc.unary_stream_rpc_method_handler(self._observed(method, handler, streaming))
        unary = partial(self._admitted, self._unary(handler))
        return grpc.unary_unary_rpc_method_handler(self._observed(method, handler, unary))

    def _observed(self, method: str, handler: Handler, respond: Respond) -> Any:
        return partial(self._observe, method, "server_stream" if handler.response_streaming else "unary", respond)

    def _unary(self, handler: Handler) -> Respond:
        parse, answer = cast("Any", handler.request_deserializer), cast("Any", handler.unary_unary)

        async def respond(call: Call, raw: bytes, context: Context) -> bytes:
            return self._serialized(handler, await answer(_parsed(parse, raw), context))

        return respond

    def _streaming(self, handler: Handler) -> Respond:
        parse, answer = cast("Any", handler.request_deserializer), cast("Any", handler.unary_stream)

        async def respond(call: Call, raw: bytes, context: Context) -> None:
            started: float | None = time.perf_counter()
            async with aclosing(answer(_parsed(parse, raw), context)) as messages:
                async for message in messages:
                    await context.write(self._serialized(handler, message))
                    if started is not None:
                        self._metrics.first_message(call, time.perf_counter() - started)
                        started = None

        return respond

    def _serialized(self, handler: Handler, message: object) -> bytes:
        response: bytes = cast("Any", handler.response_serializer)(message)
        # gRPC would call it RESOURCE_EXHAUSTED, after we counted it OK.
        if len(response) > self._max_response_bytes:
            raise ResponseTooLarge(len(response), self._max_response_bytes)
        return response

    async def _observe(self, method: str, kind: str, respond: Respond, raw: Any, context: Context) -> bytes | None:
        metadata = context.invocation_metadata()
        call = Call(request_id_of(metadata), method, kind, attempt_of(metadata))
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

    async def _admitted(self, respond: Respond, call: Call, raw: bytes, context: Context) -> bytes | None:
        try:
            with self._admission.call():
                return await respond(call, raw, context)
        except (Overloaded, Unavailable) as error:
            if not call.model:
                self._metrics.refused(call.method, error.reason)
            raise

    async def _refuse(self, error: Exception, requests: object, context: Context) -> None:
        """Refuse a call to a service that is not observed."""
        await self._abort(error, Call(request_id_of(context.invocation_metadata()), method=""), context)

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
    async def respond(call: Call, requests: object, context: Context) -> None:
        raise error

    return respond


def _parsed(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return parse(raw)
    except DecodeError:
        description = "the bytes are not a message of this method, or a string in them is not UTF-8; compare the .proto"
        raise InvalidRequest([FieldViolation("request", description)]) from None
