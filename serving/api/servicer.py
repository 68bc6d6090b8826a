"""The RPCs themselves: find the model, convert, translate, convert back. Everything else is the interceptor's."""

from __future__ import annotations

import time
from typing import Any

from grpc import aio

from serving.api.convert import request_violations, to_domain, to_model, to_response
from serving.api.models import ModelRegistry, ServedModel
from serving.engine.validation import option_violations
from serving.errors import EngineFailure, InvalidRequest
from serving.observability.call import current_call
from serving.pb import translation_service_pb2 as pb
from serving.pb import translation_service_pb2_grpc as pb_grpc


class TranslationServicer(pb_grpc.TranslationServiceServicer):
    """Answers calls with the models of a registry; raises the errors of :mod:`serving.errors`."""

    def __init__(self, models: ModelRegistry) -> None:
        """Serves whatever the registry holds."""
        self._models = models

    async def Translate(
        self, request: pb.TranslateRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.TranslateResponse:
        """Translates texts."""
        call = current_call.get()
        if call is None:
            raise EngineFailure("a call came past the interceptor")
        model = self._resolve(request.model, request.version)
        call.figures["contents"] = len(request.contents)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        asked = to_domain(request, deadline=deadline, request_id=call.request_id)
        violations = request_violations(request, model)
        violations += self._models.check_languages(model, request.source_language, request.target_language)
        if violations:  # the translator checks options itself, but would not be asked any more
            violations += option_violations(asked.options, len(asked.texts), model.manifest, model.limits)
            raise InvalidRequest(violations)
        result = await model.translator.translate(asked)
        call.figures |= {
            "source_tokens": result.source_tokens,
            "target_tokens": result.target_tokens,
            "queue_seconds": round(result.queue_seconds, 6),
            "compute_seconds": round(result.compute_seconds, 6),
        }
        return to_response(result, model, request)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """Lists the models."""
        return pb.ListModelsResponse(models=[self._described(model) for model in self._models.models()])

    async def GetModel(
        self, request: pb.GetModelRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        """Describes one model."""
        return pb.GetModelResponse(model=self._described(self._resolve(request.name, request.version)))

    def _resolve(self, name: str, version: int) -> ServedModel:
        model = self._models.resolve(name, version)
        if call := current_call.get():
            call.model = model.label
        return model

    def _described(self, model: ServedModel) -> pb.Model:
        return to_model(model, is_default=self._models.is_default(model))
