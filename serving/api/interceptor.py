"""Interceptor around every call of gRPC: access, bytes and messages, statuses of errors, the request id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from serving.api.access import Access
from serving.api.calls import READ_SECONDS, Calls
from serving.api.clients import host_of
from serving.api.errors import code_of, status_of, trailing_metadata
from serving.errors import (
    Cancelled,
    FieldViolation,
    InvalidRequest,
    PermissionDenied,
    ResponseTooLarge,
    Unauthenticated,
)
from serving.observability.call import REQUEST_ID_KEY, Call, attempt_of, request_id_of, trace_context_of
from serving.tokens import BearerToken

# A caller's deadline arrives as a cancellation at about the moment it passes.
_DEADLINE_SLACK = 0.05

Context = aio.ServicerContext[Any, Any]
Respond = Callable[[Call, Any, Context], Awaitable[bytes | None]]  # messages are bytes; a stream writes its own
if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs only
    """Interceptor of the methods of some services; calls of other services pass through if they may."""

    def __init__(self, services: Collection[str], access: Access, calls: Calls, max_response_bytes: int) -> None:
        """Intercept the methods of ``services``, and ask ``access`` about every call to any."""
        self._services = services
        self._access = access
        self._calls = calls
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
            token = self._access.to_method(handler_call_details.method, handler_call_details.invocation_metadata)
        except (Unauthenticated, PermissionDenied) as error:
            # Streaming in both directions fits every method, and reads nothing of what the caller sends.
            ours = service in self._services
            refuse = self._observed(service, method, handler, _raising(error)) if ours else partial(self._refuse, error)
            return grpc.stream_stream_rpc_method_handler(cast("Any", refuse))
        if service not in self._services:
            return handler
        if handler.response_streaming:
            streaming = partial(self._admitted, self._streaming(handler), token)
            return grpc.unary_stream_rpc_method_handler(self._observed(service, method, handler, streaming))
        unary = partial(self._admitted, self._unary(handler), token)
        return grpc.unary_unary_rpc_method_handler(self._observed(service, method, handler, unary))

    def _observed(self, service: str, method: str, handler: Handler, respond: Respond) -> Any:
        kind = "server_stream" if handler.response_streaming else "unary"
        return partial(self._observe, service, method, kind, respond)

    def _unary(self, handler: Handler) -> Respond:
        parse, answer = cast("Any", handler.request_deserializer), cast("Any", handler.unary_unary)

        async def respond(call: Call, raw: bytes, context: Context) -> bytes:
            return self._serialized(handler, await answer(_parsed(parse, raw), context))

        return respond

    def _streaming(self, handler: Handler) -> Respond:
        parse, answer = cast("Any", handler.request_deserializer), cast("Any", handler.unary_stream)

        async def respond(call: Call, raw: bytes, context: Context) -> None:
            async with aclosing(answer(_parsed(parse, raw), context)) as messages:
                async for message in messages:
                    await _write(context, self._serialized(handler, message))
                    self._calls.answering(call)

        return respond

    def _serialized(self, handler: Handler, message: object) -> bytes:
        response: bytes = cast("Any", handler.response_serializer)(message)
        # gRPC would call it RESOURCE_EXHAUSTED, after we counted it OK.
        if len(response) > self._max_response_bytes:
            raise ResponseTooLarge(len(response), self._max_response_bytes)
        return response

    async def _observe(
        self, service: str, method: str, kind: str, respond: Respond, raw: Any, context: Context
    ) -> bytes | None:
        metadata = context.invocation_metadata()
        call = Call(
            request_id_of(metadata), method, service, kind=kind, attempt=attempt_of(metadata),
            trace_context=trace_context_of(metadata),
        )  # fmt: skip
        context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        try:
            with self._calls.observed(call, partial(_is_late, context)):
                return await respond(call, raw, context)
        except Exception as error:
            await _abort(error, call, context)
            raise

    async def _admitted(
        self, respond: Respond, token: BearerToken | None, call: Call, raw: bytes, context: Context
    ) -> bytes | None:
        with self._calls.admitted(call, host_of(context.peer()), token):
            return await respond(call, raw, context)

    async def _refuse(self, error: Exception, requests: object, context: Context) -> None:
        """Refuse a call to a service that is not observed."""
        await _abort(error, Call(request_id_of(context.invocation_metadata()), method=""), context)


async def _abort(error: Exception, call: Call, context: Context) -> None:
    status = status_of(error, call.request_id)
    await context.abort(code_of(error), status.message, trailing_metadata(error, status, call.request_id))


async def _write(context: Context, message: bytes) -> None:
    try:
        async with asyncio.timeout(READ_SECONDS):
            await context.write(message)
    except TimeoutError:
        raise Cancelled(f"the caller read nothing for {READ_SECONDS:g} seconds") from None
    except aio.InternalError:  # the call has ended, and its cancellation is on the way
        raise asyncio.CancelledError from None


def _is_late(context: Context) -> bool:
    remaining = context.time_remaining()
    return remaining is not None and remaining <= _DEADLINE_SLACK


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
