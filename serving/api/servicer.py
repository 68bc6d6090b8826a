"""The RPCs themselves: find the model, convert, translate, convert back. Everything else is the interceptor's."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from grpc import aio

from serving.api.models import ModelRegistry, ServedModel
from serving.conversion import (
    from_model,
    to_options,
    to_pairs,
    to_response,
    to_score_options,
    to_score_response,
    to_stream_response,
)
from serving.engine.request import ScoringRequest, TranslationRequest
from serving.engine.translator import Translator
from serving.errors import EngineFailure, FieldViolation
from serving.messages import MimeType, Result
from serving.observability.call import Call, current_call
from serving.pb import translation_service_pb2 as pb
from serving.pb import translation_service_pb2_grpc as pb_grpc
from serving.score_messages import ScoreResult

# Names by value.
_LONG_INPUT_POLICIES, _SEGMENTATIONS, _EARLY_STOPPINGS = (
    {value: name for name, value in known.items()} for known in (pb.LongInputPolicy, pb.Segmentation, pb.EarlyStopping)
)
_MIME_TYPES = frozenset({"", *MimeType})


def to_domain(
    request: pb.TranslateRequest, *, deadline: float | None, request_id: str, served: tuple[str, ...]
) -> TranslationRequest:
    """Turn a message into the engine's request.

    Args:
        request: The message; nothing in it is checked but its enums and MIME type, which only the transport knows.
        deadline: ``time.monotonic()`` value after which nobody waits for the answer.
        request_id: For the log.
        served: Language pairs that the server translates, in words.
    """
    violations = [
        FieldViolation(field, f"is {value}, which is none of {', '.join(known.values())}")
        for field, value, known in (
            ("long_input_policy", request.long_input_policy, _LONG_INPUT_POLICIES),
            ("segmentation", request.segmentation, _SEGMENTATIONS),
            ("options.early_stopping", request.options.early_stopping, _EARLY_STOPPINGS),
        )
        if value not in known
    ]
    if request.mime_type not in _MIME_TYPES:
        violations.append(FieldViolation("mime_type", f"is {request.mime_type!r}; give one of {', '.join(MimeType)}"))
    return TranslationRequest(
        texts=tuple(request.contents),
        options=to_options(request),
        deadline=deadline,
        request_id=request_id,
        source_language=request.source_language,
        target_language=request.target_language,
        served=served,
        violations=tuple(violations),
    )


class TranslationServicer(pb_grpc.TranslationServiceServicer):
    """Answers calls with the models of a registry; raises the errors of :mod:`serving.errors`."""

    def __init__(self, models: ModelRegistry) -> None:
        """Serve the models that the registry holds."""
        self._models = models

    async def Translate(
        self, request: pb.TranslateRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.TranslateResponse:
        """Translate texts."""
        with self._asked(request, context) as (translator, asked):
            result = await translator.translate(asked)
        _note(result)
        return to_response(result)

    async def TranslateStream(
        self, request: pb.TranslateStreamRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.TranslateStreamResponse]:
        """Translate texts and tell what becomes certain of them."""
        with self._asked(request.translate, context) as (translator, asked):
            async with aclosing(translator.stream(asked)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        _note(event)
                    yield to_stream_response(event)

    async def Score(self, request: pb.ScoreRequest, context: aio.ServicerContext[Any, Any]) -> pb.ScoreResponse:
        """Score translations."""
        pairs = to_pairs(request)
        size = sum(len(pair.source) + len(pair.target) + sum(map(len, pair.tokens)) for pair in pairs)
        with self._borrowed(request, len(pairs), size) as (model, call):
            sources = TranslationRequest(
                texts=tuple(pair.source for pair in pairs),
                options=to_score_options(request),
                deadline=_deadline(context),
                request_id=call.request_id,
                source_language=request.source_language,
                target_language=request.target_language,
                served=self._models.served_pairs(),
                max_beam=call.max_beam,
            )
            result = await model.translator.score(ScoringRequest(pairs, sources))
        _note(result)
        return to_score_response(result)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """List the models."""
        return pb.ListModelsResponse(models=[self._described(model) for model in self._models.models()])

    async def GetModel(
        self, request: pb.GetModelRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        """Describe one model."""
        return pb.GetModelResponse(model=self._described(self._resolve(request.name, request.version)))

    @contextmanager
    def _asked(
        self, request: pb.TranslateRequest, context: aio.ServicerContext[Any, Any]
    ) -> Iterator[tuple[Translator, TranslationRequest]]:
        """Borrow the model that is to translate, and convert the request."""
        size = sum(map(len, request.contents))
        with self._borrowed(request, len(request.contents), size) as (model, call):
            served = self._models.served_pairs()
            asked = to_domain(request, deadline=_deadline(context), request_id=call.request_id, served=served)
            yield model.translator, replace(asked, phases=call.phases, max_beam=call.max_beam)

    @contextmanager
    def _borrowed(
        self, request: pb.TranslateRequest | pb.ScoreRequest, contents: int, characters: int
    ) -> Iterator[tuple[ServedModel, Call]]:
        """Borrow the model that is asked for, after taking the texts out of the limits of the caller."""
        call = current_call.get()
        if call is None:
            raise EngineFailure("a call came past the interceptor")
        call.figures["contents"] = contents
        call.spend(characters)
        wanted = request.model, request.version, request.source_language, request.target_language
        with self._models.borrow(*wanted) as model:
            call.model = model.label
            yield model, call

    def _resolve(self, name: str, version: int) -> ServedModel:
        model = self._models.resolve(name, version)
        if call := current_call.get():
            call.model = model.label
        return model

    def _described(self, model: ServedModel) -> pb.Model:
        return from_model(model.described(is_default=self._models.is_default(model)))


def _deadline(context: aio.ServicerContext[Any, Any]) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _note(result: Result | ScoreResult) -> None:
    """Note a result's figures for the access log."""
    if call := current_call.get():
        call.figures |= {
            "source_tokens": result.source_tokens,
            "target_tokens": result.target_tokens,
            "queue_seconds": round(result.queue_seconds, 6),
            "compute_seconds": round(result.compute_seconds, 6),
        }
