"""``/v1``: the messages of the gRPC API, in protobuf's mapping to JSON, answered by the same methods."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from google.protobuf.json_format import MessageToDict, Parse, ParseError
from google.protobuf.message import Message
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api.servicer import TranslationServicer
from serving.api.web.endpoint import Asked, Endpoints
from serving.errors import FieldViolation, InvalidRequest
from serving.pb import translation_service_pb2 as pb

_Request = TypeVar("_Request", bound=Message)


def as_json(message: Message) -> dict[str, Any]:
    """Return a message in protobuf's mapping to JSON, with the names of the proto and no field left out."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def v1_routes(endpoints: Endpoints, servicer: TranslationServicer) -> list[Route]:
    """Return the routes of the API's own form."""

    async def translate(asked: Asked) -> Response:
        request = await _parsed(asked, pb.TranslateRequest())
        return JSONResponse(as_json(await servicer.Translate(request, cast("Any", asked))))

    async def list_models(asked: Asked) -> Response:
        return JSONResponse(as_json(await servicer.ListModels(pb.ListModelsRequest(), cast("Any", asked))))

    return [
        endpoints.route("POST", "/v1/translate", translate, translates=True),
        endpoints.route("GET", "/v1/models", list_models),
    ]


async def _parsed(asked: Asked, message: _Request) -> _Request:
    try:
        return Parse(await asked.exchange.json_text(), message, max_recursion_depth=20)
    except ParseError as error:
        problem = f"is no {message.DESCRIPTOR.name} in JSON: {' '.join(str(error).split())}"
        raise InvalidRequest([FieldViolation("body", problem)]) from None
