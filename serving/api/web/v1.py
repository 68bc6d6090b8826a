"""``/v1``: the messages of the gRPC API, in protobuf's mapping to JSON, answered by the same methods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar, cast

from google.protobuf.json_format import MessageToDict, Parse, ParseError
from google.protobuf.message import Message
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from serving.api.servicer import TranslationServicer
from serving.api.web.endpoint import EVENTS, Asked, Endpoints, google_error
from serving.errors import Cancelled, FieldViolation, InvalidRequest
from serving.pb import translation_service_pb2 as pb

_Request = TypeVar("_Request", bound=Message)
_INLINE_BYTES = 4096  # of a message that is converted on the event loop: about a millisecond


def v1_routes(endpoints: Endpoints, servicer: TranslationServicer) -> list[Route]:
    """Return the routes of the API's own form."""

    async def translate(asked: Asked) -> Response:
        request = await _parsed(asked, pb.TranslateRequest())
        if asked.call.kind == "unary":
            return await _response(await servicer.Translate(request, cast("Any", asked)))
        answers = servicer.TranslateStream(pb.TranslateStreamRequest(translate=request), cast("Any", asked))
        events = cast("AsyncGenerator[pb.TranslateStreamResponse]", answers)
        first = await anext(events)  # an error before it has a status of its own
        endpoints.calls.answering(asked.call)
        return _EventStream(first, events, asked.call.request_id)

    async def score(asked: Asked) -> Response:
        request = await _parsed(asked, pb.ScoreRequest())
        return await _response(await servicer.Score(request, cast("Any", asked)))

    async def list_models(asked: Asked) -> Response:
        return await _response(await servicer.ListModels(pb.ListModelsRequest(), cast("Any", asked)))

    return [
        endpoints.route("POST", "/v1/translate", translate, translates=True),
        endpoints.route("POST", "/v1/score", score, translates=True),
        endpoints.route("GET", "/v1/models", list_models),
    ]


class _EventStream(StreamingResponse):
    """Server-sent events, one for each message: ``delta``, ``answer``, or at the end ``error``.

    Attributes:
        failure: The error that ended it.
    """

    def __init__(
        self,
        first: pb.TranslateStreamResponse,
        others: AsyncGenerator[pb.TranslateStreamResponse],
        request_id: str,
    ) -> None:
        self.failure: BaseException | None = None
        self._first = first
        self._others = others
        self._request_id = request_id
        super().__init__(self._events(), headers={"X-Accel-Buffering": "no"}, media_type=EVENTS)  # proxies pass it on

    async def _events(self) -> AsyncIterator[str]:
        try:
            yield await _event(self._first)
            async with aclosing(self._others) as others:
                async for message in others:
                    yield await _event(message)
        except asyncio.CancelledError:
            self.failure = Cancelled("the caller went away")
            raise
        except Exception as error:
            self.failure = error
            yield _written("error", json.dumps(google_error(error, self._request_id)[1], ensure_ascii=False))


async def _response(message: Message) -> Response:
    return Response(await _as_json(message), media_type="application/json")


async def _event(message: pb.TranslateStreamResponse) -> str:
    name = message.WhichOneof("event") or "unknown"
    return _written(name, await _as_json(getattr(message, name)))


def _written(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


async def _as_json(message: Message) -> str:
    """Return a message in protobuf's mapping to JSON, with the names of the proto and no field left out.

    A large one is converted in a thread, since it takes so long that others would notice.
    """
    if message.ByteSize() <= _INLINE_BYTES:
        return _converted(message)
    return await asyncio.to_thread(_converted, message)


def _converted(message: Message) -> str:
    found = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


async def _parsed(asked: Asked, message: _Request) -> _Request:
    try:
        return Parse(await asked.exchange.json_text(), message, max_recursion_depth=20)
    except ParseError as error:
        problem = f"is not a {message.DESCRIPTOR.name} in JSON: {' '.join(str(error).split())}"
        raise InvalidRequest([FieldViolation("body", problem)]) from None
