"""An endpoint of the web port: what surrounds the answer to each request, as the interceptor does it for gRPC."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from serving.api.access import Access, only_token
from serving.api.calls import Calls
from serving.api.errors import code_of, http_status_of, status_of
from serving.api.web.exchange import Exchange
from serving.errors import InvalidRequest, Overloaded, ResponseTooLarge, Unauthenticated, Unavailable
from serving.observability.call import REQUEST_ID_KEY, Call, request_id_of, trace_context_of

EVENTS = "text/event-stream"
_TIMEOUT_HEADER = "x-server-timeout"  # in seconds, as Google's APIs have it


@dataclass(frozen=True)
class Asked:
    """What an answer is made from.

    Attributes:
        exchange: The HTTP request.
        call: The call that it is for logs and metrics.
        caller: Name of its token; empty where none is needed.
        deadline: ``time.monotonic()`` value after which nobody waits for the answer, or None.
    """

    exchange: Exchange
    call: Call
    caller: str
    deadline: float | None

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline, as the context of a gRPC call does."""
        return None if self.deadline is None else self.deadline - time.monotonic()


Answer = Callable[[Asked], Awaitable[Response]]


async def _bearer(exchange: Exchange) -> str:
    return only_token(exchange.authorization)


def google_error(error: BaseException, request_id: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of an error as Google's APIs do: a ``google.rpc.Status`` under ``error``."""
    status = http_status_of(error)
    described = MessageToDict(status_of(error, request_id))
    return status, {"error": described | {"code": status, "status": code_of(error).name}}


@dataclass(frozen=True)
class Dialect:
    """How one kind of API shows who calls and what went wrong.

    Attributes:
        token: Read the token of a request.
        failure: Return the status and the JSON of an error, given the request id.
        names: Names that fields of our messages have in it.
    """

    token: Callable[[Exchange], Awaitable[str]] = _bearer
    failure: Callable[[BaseException, str], tuple[int, dict[str, Any]]] = google_error
    names: Mapping[str, str] = field(default_factory=dict)


class Endpoints:
    """Maker of the routes of one server."""

    def __init__(self, access: Access, calls: Calls, max_bytes: int) -> None:
        """Guard routes by ``access`` and ``calls``; requests and responses have ``max_bytes`` at most."""
        self.access = access
        self.calls = calls
        self.max_bytes = max_bytes

    def route(
        self, verb: str, path: str, answer: Answer, dialect: Dialect | None = None, *, translates: bool = False
    ) -> Route:
        """Return the route that answers requests to a path.

        Args:
            verb: HTTP method.
            path: With parameters in braces, as Starlette has them.
            answer: Makes the response; its errors become responses of the dialect.
            dialect: By default that of Google's APIs.
            translates: Whether a token needs the role that translates.
        """
        endpoint = _Endpoint(self, f"{verb} {path}", answer, dialect or Dialect(), translates)
        return Route(path, endpoint, methods=[verb])


@dataclass(frozen=True)
class _Endpoint:
    """An ASGI application, so that a response is sent before its call ends, and a stream is part of it."""

    server: Endpoints
    name: str
    answer: Answer
    dialect: Dialect
    translates: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        streams = EVENTS in request.headers.get("accept", "")
        call = Call(
            request_id_of(request.headers.items()), self.name, kind="server_stream" if streams else "unary",
            trace_context=trace_context_of(request.headers.items()),
        )  # fmt: skip
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._exchange(Exchange(request, self.server.max_bytes), call, sending)
        except Exception as error:
            if not begun:  # else the response has told it
                await self._failure(error, call)(scope, receive, send)

    async def _exchange(self, exchange: Exchange, call: Call, send: Send) -> None:
        request = exchange.request
        deadline = _deadline(request.headers)
        with self.server.calls.observed(call, lambda: deadline is not None and deadline <= time.monotonic()):
            token = self.server.access.check(await self.dialect.token(exchange), translates=self.translates)
            caller = token.name if token else ""
            await exchange.body()  # before there is a place for the call, which a slow caller must not hold
            host = request.client.host if request.client else ""
            with self.server.calls.admitted(call, host, token):
                response = await exchange.unless_gone(self.answer(Asked(exchange, call, caller, deadline)))
                if (size := len(getattr(response, "body", b""))) > self.server.max_bytes:
                    raise ResponseTooLarge(size, self.server.max_bytes)
                response.headers[REQUEST_ID_KEY] = call.request_id
                await response(request.scope, request.receive, send)
                if failure := getattr(response, "failure", None):
                    raise failure

    def _failure(self, error: Exception, call: Call) -> Response:
        if isinstance(error, InvalidRequest) and self.dialect.names:
            error = error.renamed(self.dialect.names)
        status, body = self.dialect.failure(error, call.request_id)
        headers = {REQUEST_ID_KEY: call.request_id}
        if isinstance(error, Overloaded | Unavailable):
            headers["Retry-After"] = str(math.ceil(error.retry_after))
        if status == http_status_of(Unauthenticated()):
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(body, status, headers)


def _deadline(headers: Mapping[str, str]) -> float | None:
    """Return when the caller stops waiting; a header that is not a number of seconds counts as absent."""
    try:
        seconds = float(headers.get(_TIMEOUT_HEADER, ""))
    except ValueError:
        return None
    return time.monotonic() + seconds if math.isfinite(seconds) else None
